"""Reads the External Term Format: bytes from the node to Python values.

The format is that of "External Term Format" in the ERTS user's guide. Read are all tags that OTP 25
to 29 sends outside the distribution protocol. One loop does the work, with a stack of its own: the
depth of the input costs memory, never Python's recursion. `etf_writer` is the other direction.

Values are those of docs/types.md.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, Final, TypeAlias

from erlang.terms import (
    Bitstring,
    FrozenDict,
    FrozenList,
    Fun,
    ImproperList,
    MapKey,
    Pid,
    Port,
    Reference,
    received_atom,
    received_opaque,
)
from erlang_port.etf_writer import MAX_DEPTH, VERSION, Writer, encode

__all__ = ("MAX_DEPTH", "VERSION", "DecodeError", "Writer", "decode", "decode_prefix", "encode")

Buffer: TypeAlias = bytes | memoryview
Scalar: TypeAlias = Callable[[Buffer, int, bool], tuple[Any, int]]

_COPY_BELOW: Final = 1 << 16
"""Inputs of fewer bytes that are not `bytes` are copied: slicing `bytes` is faster. Larger: more
is copied for nothing. Smaller: short requests are read more slowly."""

_MAX_CACHED_ATOMS: Final = 50_000
"""How many encoded atoms are remembered. Larger: more memory. Smaller: atoms past it are decoded
each time."""

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U32_AT = _U32.unpack_from
_F64 = struct.Struct(">d")
_INTEGER = struct.Struct(">i")
_OLD_FLOAT = re.compile(rb" *[+-]?\d+\.\d+(?:[eE][+-]?\d+)?\0*")
# The beginning of {bytes, B} and {msgpack, B}, after the tuple's header: an atom in any of its four
# encodings, and the tag of a binary.
_WRAPPED = re.compile(rb"(?:[sw]\x05|[dv]\x00\x05)(bytes)m|(?:[sw]\x07|[dv]\x00\x07)(msgpack)m")

_TUPLE, _LIST, _MAP, _ROOT = range(4)
# What is open while its elements are read: elements so far, number to wait for, kind, frozen.
_Frame: TypeAlias = tuple[list[Any], int, int, bool]

_SHORT_RUN: Final = 8
"""Elements up to which a run is not looked for. Larger: short lists of integers are read one by
one. Smaller: looking costs more than it saves."""

_SHORT_TEXT: Final = 4_096
"""Bytes up to which a binary is copied before it is decoded. Larger: copies that could be saved.
Smaller: a view is made, which costs more than the copy."""


class DecodeError(ValueError):
    """The bytes are not one complete term. `offset` is where, counted from the first byte given."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at offset {offset}")
        self.message = message
        self.offset = offset

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, int]]:
        return DecodeError, (self.message, self.offset)


class _SameKeyError(Exception):
    """Two keys of a map are equal in Python."""


class _NoKeyError(Exception):
    """A {msgpack, B} in a map key is a value that Python cannot hash."""


def decode(data: bytes | bytearray | memoryview, offset: int = 0, binaries: str = "str") -> Any:
    """The one term that `data` holds from `offset` to its end, version byte first.

    `binaries` is "str" or "bytes": what binaries become. Raises DecodeError, and UnicodeDecodeError
    for a binary that is not UTF-8 under "str".
    """
    value, end = decode_prefix(data, offset, binaries)
    if end != len(data):
        raise DecodeError("bytes left over after the term", end)
    return value


def decode_prefix(
    data: bytes | bytearray | memoryview, offset: int = 0, binaries: str = "str"
) -> tuple[Any, int]:
    """The term that begins at `offset`, version byte first, and the offset after it.

    The same as `decode`, except that anything may follow the term.
    """
    if type(data) is not bytes:
        short = len(data) < _COPY_BELOW
        data = bytes(data) if short else memoryview(data).cast("B").toreadonly()
    if binaries == "str":
        text = True
    elif binaries == "bytes":
        text = False
    else:
        raise ValueError(f"binaries must be 'str' or 'bytes', not {binaries!r}")
    try:
        if data[offset] != VERSION:
            raise DecodeError(f"version byte is {data[offset]}, not {VERSION}", offset)
        if data[offset + 1] == 80:
            return _compressed(data, offset + 1, text)
    except IndexError:
        raise DecodeError("truncated", offset) from None
    return _top(data, offset + 1, text)


def _top(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    try:
        try:
            return _read(data, pos, text)
        except _SameKeyError:
            return _read(data, pos, text, keyed=True)
    except RecursionError:
        raise DecodeError(f"maps nested more than {MAX_DEPTH} deep", pos) from None


def _compressed(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    """A term after tag 80: U32 uncompressed size, zlib data."""
    try:
        size = _U32_AT(data, pos + 1)[0]
        inflater = zlib.decompressobj()
        inner = inflater.decompress(memoryview(data)[pos + 5 :], size + 1)
    except (struct.error, zlib.error) as error:
        raise DecodeError(f"compressed term cannot be read: {error}", pos) from None
    if len(inner) != size or not inflater.eof:
        raise DecodeError(f"compressed term does not hold {size} bytes", pos)
    try:
        value, end = _top(inner, 0, text)
        if end != size:
            raise DecodeError("bytes left over after the term", end)
    except DecodeError as error:
        raise DecodeError(f"in the compressed term: {error}", pos) from None
    return value, len(data) - len(inflater.unused_data)


def _read(
    data: Buffer, pos: int, text: bool, keyed: bool = False, frozen: bool = False, depth: int = 0
) -> tuple[Any, int]:
    """The term at `pos`, without version byte, and the offset after it.

    A container that is open is its elements so far, the number to wait for (a list has one more,
    its tail; a map two for each entry), its kind, and whether it lies in a map key, where lists and
    maps are frozen. `keyed` is the second try at a term in which keys collide. `depth` containers
    are open already.
    """
    stack: list[_Frame] = []
    items: list[Any] = []
    need, kind = 1, _ROOT
    size = len(data)
    quick = text and type(data) is bytes
    try:
        while True:
            tag = data[pos]
            if tag == 109 and quick and (length := _U32_AT(data, pos + 1)[0]) <= _SHORT_TEXT:
                start = pos + 5
                end = start + length
                if end > size:
                    raise DecodeError("truncated", pos)
                items.append(data[start:end].decode())  # type: ignore[union-attr]
                pos = end
            elif tag == 97:
                if need - len(items) > _SHORT_RUN and data[pos + 2] == 97:
                    pos = _small_integers(data, pos, need - len(items), items)
                else:
                    items.append(data[pos + 1])
                    pos += 2
            elif tag in _SCALARS:
                if tag in _RUNS and need - len(items) > _SHORT_RUN:
                    pos = _RUNS[tag](data, pos, need - len(items), items)
                else:
                    value, pos = _SCALARS[tag](data, pos, text)
                    items.append(value)
            else:
                inside = frozen or (kind == _MAP and not len(items) & 1)
                value, pos, count, opens = _open(data, pos, inside)
                if count:
                    if opens == _LIST == kind and len(items) == need - 1:
                        need += count - 1
                        continue
                    if len(stack) + depth >= MAX_DEPTH:
                        raise DecodeError(f"nested more than {MAX_DEPTH} deep", pos)
                    if not keyed or opens != _MAP:
                        stack.append((items, need, kind, frozen))
                        items, need, kind, frozen = [], count, opens, inside
                        continue
                    value, pos = _keyed_map(data, pos, text, count, inside, depth + len(stack) + 1)
                items.append(value)
            while len(items) == need:
                if kind == _ROOT:
                    return items[0], pos
                value = _CLOSE[frozen][kind](items)
                items, need, kind, frozen = stack.pop()
                items.append(value)
    except (IndexError, struct.error):
        raise DecodeError("truncated", pos) from None
    except UnicodeDecodeError as error:
        raise _not_utf8(error, pos, [*stack, (items, need, kind, frozen)]) from None
    except _NoKeyError as error:
        raise DecodeError(str(error), pos) from None


def _open(data: Buffer, pos: int, frozen: bool) -> tuple[Any, int, int, int]:
    """What the header at `pos` begins: (value, offset after it, elements, kind).

    With no elements the value is complete, else they follow and it means nothing.
    """
    tag = data[pos]
    if tag == 104:
        count, start, kind = data[pos + 1], pos + 2, _TUPLE
        if count == 2 and (wrapped := _WRAPPED.match(data, start)) is not None:
            value, end = _unwrap(data, wrapped)
            return value, end, 0, _TUPLE
    elif tag == 106:
        return FrozenList() if frozen else [], pos + 1, 0, _LIST
    elif tag == 107:
        end = pos + 3 + _U16.unpack_from(data, pos + 1)[0]
        if end > len(data):
            raise DecodeError("truncated", pos)
        return (FrozenList if frozen else list)(data[pos + 3 : end]), end, 0, _LIST
    elif tag == 108:
        count, start, kind = _U32_AT(data, pos + 1)[0] + 1, pos + 5, _LIST
    elif tag == 116:
        count, start, kind = _U32_AT(data, pos + 1)[0] * 2, pos + 5, _MAP
        if not count:
            return FrozenDict() if frozen else {}, start, 0, _MAP
    elif tag == 105:
        count, start, kind = _U32_AT(data, pos + 1)[0], pos + 5, _TUPLE
    elif tag == 121:
        raise DecodeError("a term in the node's local format (tag 121)", pos)
    else:
        raise DecodeError(f"unknown tag {tag}", pos)
    if count > len(data) - start:
        raise DecodeError("truncated", pos)
    return (), start, count, kind


def _close_list(items: list[Any]) -> Any:
    tail = items.pop()
    if isinstance(tail, list):
        items += tail
        return items
    return ImproperList(items, tail) if items else tail


def _close_frozen_list(items: list[Any]) -> Any:
    closed = _close_list(items)
    try:
        return FrozenList(closed) if closed is items else closed
    except TypeError as error:
        raise _NoKeyError(f"a map key cannot be hashed ({error})") from None


def _close_map(items: list[Any]) -> dict[Any, Any]:
    pairs = iter(items)
    try:
        value = dict(zip(pairs, pairs))  # noqa: B905 - twice the same iterator
    except TypeError as error:
        raise _NoKeyError(f"a map key cannot be hashed ({error})") from None
    if 2 * len(value) != len(items):
        raise _SameKeyError
    return value


def _close_frozen_map(items: list[Any]) -> FrozenDict:
    value = _close_map(items)
    try:
        return FrozenDict(value)
    except TypeError as error:
        raise _NoKeyError(f"a map key cannot be hashed ({error})") from None


_CLOSE: Final[tuple[tuple[Callable[[list[Any]], Any], ...], ...]] = (
    (tuple, _close_list, _close_map),
    (tuple, _close_frozen_list, _close_frozen_map),
)


def _keyed_map(
    data: Buffer, pos: int, text: bool, count: int, frozen: bool, depth: int
) -> tuple[dict[Any, Any], int]:
    """The map of `count` keys and values that begin at `pos`, and the offset after it.

    Reads it key by key, so that the bytes of each are at hand: all keys that are equal to another
    become MapKeys, whichever comes first, since the order of a large map is anything.
    """
    entries: list[tuple[Any, bytes, Any]] = []
    for _ in range(count // 2):
        start = pos
        key, pos = _read(data, pos, text, keyed=True, frozen=True, depth=depth)
        raw = bytes(data[start:pos])
        entry, pos = _read(data, pos, text, keyed=True, frozen=frozen, depth=depth)
        entries.append((key, raw, entry))
    try:
        times = Counter([key for key, _, _ in entries])
        value = {key if times[key] == 1 else MapKey(raw, key): entry for key, raw, entry in entries}
        if len(value) != len(entries):
            raise DecodeError("a map has the same key twice before", pos)
        return FrozenDict(value) if frozen else value, pos
    except TypeError as error:
        raise DecodeError(f"a map key cannot be hashed ({error}) before", pos) from None


def _unwrap(data: Buffer, mark: re.Match[bytes]) -> tuple[Any, int]:
    """The value of {bytes, B} or {msgpack, B}; the length of B is where `mark` ends."""
    start = mark.end() + 4
    end = start + _U32_AT(data, mark.end())[0]
    if end > len(data):
        raise DecodeError("truncated", mark.end() - 1)
    payload = data[start:end]
    if mark.lastindex == 1:
        return bytes(payload), end
    try:
        import msgpack
    except ImportError:
        raise DecodeError(
            "{msgpack, B} needs the Python package 'msgpack', which is not installed:", mark.start()
        ) from None
    try:
        return msgpack.unpackb(payload, strict_map_key=False), end
    except Exception as error:
        # Whatever the library makes of bytes that are no MessagePack: it has no one base class.
        reason = f"{type(error).__name__}: {error}"
        raise DecodeError(f"{{msgpack, B}} cannot be unpacked ({reason})", mark.start()) from None


def _not_utf8(error: UnicodeDecodeError, pos: int, frames: list[_Frame]) -> UnicodeDecodeError:
    """The same error, with where the binary sits and the ways out."""
    path = ""
    for items, _need, kind, _frozen in frames:
        if kind == _MAP:
            path += f"[{items[-1]!r:.80}]" if len(items) & 1 else "[a key]"
        elif kind != _ROOT:
            path += f"[{len(items)}]"
    reason = (
        f"{error.reason}; the binary at offset {pos}, term{path}, is not UTF-8: "
        "send {bytes, B} to have it as bytes, or use the option binaries => bytes"
    )
    return UnicodeDecodeError("utf-8", error.object, error.start, error.end, reason)


# Runs: many integers or floats after each other, in one stroke. A run goes on for as long as the
# byte at each step is the tag: the first is one, and each element has the same size. The window
# doubles, so that what was looked at beyond a run's end is never more than the run itself.


def _run_length(data: Buffer, pos: int, left: int, step: int) -> int:
    tag = bytes(data[pos : pos + 1])
    length, window = 0, 32
    while length < left:
        window = min(window, left - length)
        start = pos + length * step
        tags = bytes(data[start : start + window * step : step])
        same = len(tags) - len(tags.lstrip(tag))
        length += same
        if same < window:
            break
        window *= 2
    return length


def _small_integers(data: Buffer, pos: int, left: int, items: list[Any]) -> int:
    length = _run_length(data, pos, left, 2)
    end = pos + 2 * length
    if end > len(data):
        raise DecodeError("truncated", len(data) - 1)
    items.extend(data[pos + 1 : end : 2])
    return end


def _integers(data: Buffer, pos: int, left: int, items: list[Any]) -> int:
    return _unpack_run(data, pos, _run_length(data, pos, left, 5), items, "xi", 5)


def _floats(data: Buffer, pos: int, left: int, items: list[Any]) -> int:
    before = len(items)
    end = _unpack_run(data, pos, _run_length(data, pos, left, 9), items, "xd", 9)
    for at, value in enumerate(items[before:]):
        if value - value != 0.0:
            raise DecodeError("a float that is not finite", pos + 9 * at)
    return end


_BLOCK: Final = 256


def _unpack_run(
    data: Buffer, pos: int, length: int, items: list[Any], layout: str, size: int
) -> int:
    """Appends `length` elements of `layout`; blocks of them make fewer tuples than single ones."""
    end = pos + length * size
    if end > len(data):
        raise DecodeError("truncated", pos)
    blocks = length // _BLOCK
    middle = pos + blocks * _BLOCK * size
    if blocks:
        block = struct.Struct(">" + layout * _BLOCK)
        items.extend(chain.from_iterable(block.iter_unpack(data[pos:middle])))
    items.extend(struct.unpack_from(">" + layout * (length - blocks * _BLOCK), data, middle))
    return end


_RUNS: Final[dict[int, Callable[[Buffer, int, int, list[Any]], int]]] = {
    98: _integers,
    70: _floats,
}


# Scalars: (data, offset of the tag, binaries are str) -> (value, offset after it).


def _binary(data: Buffer, pos: int, text: bool) -> tuple[str | bytes, int]:
    start = pos + 5
    end = start + _U32_AT(data, pos + 1)[0]
    if end > len(data):
        raise DecodeError("truncated", pos)
    if not text:
        return bytes(data[start:end]), end
    if end - start > _SHORT_TEXT:
        # A slice of bytes is a copy, one of a view is not.
        return str(memoryview(data)[start:end], "utf-8"), end
    return str(data[start:end], "utf-8"), end


def _integer(data: Buffer, pos: int, text: bool) -> tuple[int, int]:
    return _INTEGER.unpack_from(data, pos + 1)[0], pos + 5


def _small_integer(data: Buffer, pos: int, text: bool) -> tuple[int, int]:
    return data[pos + 1], pos + 2


def _float(data: Buffer, pos: int, text: bool) -> tuple[float, int]:
    value = _F64.unpack_from(data, pos + 1)[0]
    if value - value != 0.0:
        raise DecodeError("a float that is not finite", pos)
    return value, pos + 9


def _old_float(data: Buffer, pos: int, text: bool) -> tuple[float, int]:
    """FLOAT_EXT: 31 bytes that the C format "%.20e" wrote, filled up with zero bytes."""
    end = pos + 32
    digits = bytes(data[pos + 1 : end])
    if end > len(data) or not _OLD_FLOAT.fullmatch(digits):
        raise DecodeError("a malformed float", pos)
    value = float(digits.rstrip(b"\0"))
    if value - value != 0.0:
        raise DecodeError("a float that is not finite", pos)
    return value, end


def _small_big(data: Buffer, pos: int, text: bool) -> tuple[int, int]:
    return _big(data, pos, pos + 3, data[pos + 1])


def _large_big(data: Buffer, pos: int, text: bool) -> tuple[int, int]:
    return _big(data, pos, pos + 6, _U32_AT(data, pos + 1)[0])


def _big(data: Buffer, pos: int, start: int, size: int) -> tuple[int, int]:
    """`size` bytes from `start`, least significant first; the sign is the byte before them."""
    end = start + size
    if end > len(data):
        raise DecodeError("truncated", pos)
    value = int.from_bytes(data[start:end], "little")
    return -value if data[start - 1] else value, end


# Keyed by the whole encoding, tag and length included, so one look-up serves all four of them.
_atoms: dict[bytes, Any] = {}
_ATOM_VALUES: Final[dict[str, Any]] = {
    "true": True,
    "false": False,
    "none": None,
    "nil": None,
    "undefined": None,
}


def _short_atom(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    end = pos + 2 + data[pos + 1]
    return _atom(data, pos, pos + 2, end), end


def _long_atom(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    end = pos + 3 + _U16.unpack_from(data, pos + 1)[0]
    return _atom(data, pos, pos + 3, end), end


def _atom(data: Buffer, pos: int, start: int, end: int) -> Any:
    raw = bytes(data[pos:end])
    try:
        return _atoms[raw]
    except KeyError:
        pass
    if end > len(data):
        raise DecodeError("truncated", pos)
    try:
        name = raw[start - pos :].decode("utf-8" if raw[0] in (118, 119) else "latin-1")
        value = _ATOM_VALUES[name] if name in _ATOM_VALUES else received_atom(name)
    except ValueError as error:
        raise DecodeError(f"a malformed atom ({error})", pos) from None
    if len(_atoms) < _MAX_CACHED_ATOMS:
        _atoms[raw] = value
    return value


def _bits(data: Buffer, pos: int, text: bool) -> tuple[Bitstring, int]:
    """BIT_BINARY_EXT: U32 bytes, U8 bits used of the last one (1 to 7), data."""
    size, used = _U32_AT(data, pos + 1)[0], data[pos + 5]
    end = pos + 6 + size
    if end > len(data):
        raise DecodeError("truncated", pos)
    if not size or not 1 <= used <= 7:
        raise DecodeError("a malformed bit string", pos)
    return Bitstring(bytes(data[pos + 6 : end]), 8 * size - 8 + used), end


def _after_atom(data: Buffer, pos: int) -> int:
    """The offset after the atom at `pos`."""
    tag = data[pos]
    if tag not in (100, 115, 118, 119):
        raise DecodeError(f"tag {tag} in place of an atom", pos)
    return (_short_atom if tag in (115, 119) else _long_atom)(data, pos, False)[1]


def _opaque(kind: Any, tail: int) -> Scalar:
    """A reader for: tag, node name, `tail` bytes."""

    def read(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
        end = _after_atom(data, pos + 1) + tail
        if end > len(data):
            raise DecodeError("truncated", pos)
        return received_opaque(kind, bytes(data[pos:end])), end

    return read


def _reference(creation: int) -> Scalar:
    """A reader for: tag, U16 words, node name, creation of so many bytes, words of 4 bytes."""

    def read(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
        words = _U16.unpack_from(data, pos + 1)[0]
        if not 1 <= words <= 5:
            raise DecodeError("a malformed reference", pos)
        end = _after_atom(data, pos + 3) + creation + 4 * words
        if end > len(data):
            raise DecodeError("truncated", pos)
        return received_opaque(Reference, bytes(data[pos:end])), end

    return read


def _local_fun(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    """NEW_FUN_EXT: U32 size of all but the tag, then what only the node understands."""
    end = pos + 1 + _U32_AT(data, pos + 1)[0]
    if end > len(data):
        raise DecodeError("truncated", pos)
    try:
        return Fun(bytes(data[pos:end])), end
    except ValueError:
        raise DecodeError("a malformed fun", pos) from None


def _export(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    """EXPORT_EXT: module, function, arity as SMALL_INTEGER_EXT."""
    at = _after_atom(data, _after_atom(data, pos + 1))
    if data[at] != 97 or at + 2 > len(data):
        raise DecodeError("a malformed fun", pos)
    return received_opaque(Fun, bytes(data[pos : at + 2])), at + 2


_SCALARS: Final[dict[int, Scalar]] = {
    70: _float,  # NEW_FLOAT_EXT
    77: _bits,  # BIT_BINARY_EXT
    88: _opaque(Pid, 12),  # NEW_PID_EXT
    89: _opaque(Port, 8),  # NEW_PORT_EXT
    90: _reference(4),  # NEWER_REFERENCE_EXT
    97: _small_integer,  # SMALL_INTEGER_EXT
    98: _integer,  # INTEGER_EXT
    99: _old_float,  # FLOAT_EXT
    100: _long_atom,  # ATOM_EXT
    101: _opaque(Reference, 5),  # REFERENCE_EXT
    102: _opaque(Port, 5),  # PORT_EXT
    103: _opaque(Pid, 9),  # PID_EXT
    109: _binary,  # BINARY_EXT
    110: _small_big,  # SMALL_BIG_EXT
    111: _large_big,  # LARGE_BIG_EXT
    112: _local_fun,  # NEW_FUN_EXT
    113: _export,  # EXPORT_EXT
    114: _reference(1),  # NEW_REFERENCE_EXT
    115: _short_atom,  # SMALL_ATOM_EXT
    118: _long_atom,  # ATOM_UTF8_EXT
    119: _short_atom,  # SMALL_ATOM_UTF8_EXT
    120: _opaque(Port, 12),  # V4_PORT_EXT
}
