"""Reads the External Term Format: bytes from the node to Python values.

The format is that of "External Term Format" in the ERTS user's guide. Read are all tags that OTP 25
to 29 sends outside the distribution protocol. One loop does the work, with a stack of its own: the
depth of the input costs memory, never Python's recursion. `writer` is the other direction.

Values are those of docs/types.md.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable

from erlang_port.etf import handles, incoming
from erlang_port.etf.runs import RUNS, SHORT_RUN, small_integers
from erlang_port.etf.scalars import (
    ATOMS_AS_STR,
    SCALARS,
    SHORT_TEXT,
    Buffer,
    DecodeError,
    Scalar,
)
from erlang_port.etf.structs import STRUCT, of_struct
from erlang_port.etf.terms import (
    FrozenDict,
    FrozenList,
    ImproperList,
    MapKey,
)
from erlang_port.etf.writer import MAX_DEPTH, VERSION, Writer, encode
from erlang_port.hints import Any, Final, TypeAlias

__all__ = ("MAX_DEPTH", "VERSION", "DecodeError", "Writer", "decode", "decode_prefix", "encode")

_COPY_BELOW: Final = 1 << 16
"""Inputs of fewer bytes that are not `bytes` are copied: slicing `bytes` is faster. Larger: more
is copied for nothing. Smaller: short requests are read more slowly."""

_U16 = struct.Struct(">H")
_U32_AT = struct.Struct(">I").unpack_from

_ATOM_TAGS: Final = b"swdv"
# What has another meaning in a tuple of two, {bytes, B}, {msgpack, B}, {py_channel, {Pid,
# Available}} and {py_handle, {Keeper, Worker, Id}}: its name, and what comes next, the tag of a
# binary, or of a tuple, a pid first.
_WRAPPERS: Final[dict[bytes, bytes | tuple[bytes, ...]]] = {
    b"bytes": b"m",
    b"msgpack": b"m",
    b"py_channel": (b"h\x02X", b"h\x02g"),
    b"py_handle": (b"h\x03X", b"h\x03g"),
}
_WRAPPER_ATOMS: Final = {
    head + bytes((len(name),)) + name: name
    for name in _WRAPPERS
    for head in (b"s", b"w", b"d\0", b"v\0")
}

_TUPLE, _LIST, _MAP, _ROOT = range(4)
# What is open while its elements are read: elements so far, number to wait for, kind, frozen.
_Frame: TypeAlias = tuple[list[Any], int, int, bool]
# What reads each tag that holds no other terms.
Scalars: TypeAlias = dict[int, Scalar]


class _SameKeyError(Exception):
    """Two keys of a map are equal in Python."""


def decode(
    data: bytes | bytearray | memoryview,
    offset: int = 0,
    binaries: str = "str",
    atoms: str = "atom",
) -> Any:
    """The one term that `data` holds from `offset` to its end, version byte first.

    `binaries` is "str" or "bytes", `atoms` "atom" or "str": what they become. Raises DecodeError,
    and UnicodeDecodeError for a binary that is not UTF-8 under "str".
    """
    value, end = decode_prefix(data, offset, binaries, atoms)
    if end != len(data):
        raise DecodeError("bytes left over after the term", end)
    return value


def decode_prefix(
    data: bytes | bytearray | memoryview,
    offset: int = 0,
    binaries: str = "str",
    atoms: str = "atom",
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
    if atoms == "atom":
        scalars = SCALARS
    elif atoms == "str":
        scalars = ATOMS_AS_STR
    else:
        raise ValueError(f"atoms must be 'atom' or 'str', not {atoms!r}")
    try:
        if data[offset] != VERSION:
            raise DecodeError(f"version byte is {data[offset]}, not {VERSION}", offset)
        if data[offset + 1] == 80:
            return _compressed(data, offset + 1, text, scalars)
    except IndexError:
        raise DecodeError("truncated", offset) from None
    return _top(data, offset + 1, text, scalars)


def _top(data: Buffer, pos: int, text: bool, scalars: Scalars) -> tuple[Any, int]:
    try:
        try:
            return _read(data, pos, text, scalars)
        except _SameKeyError:
            return _read(data, pos, text, scalars, keyed=True)
    except RecursionError:
        raise DecodeError(f"maps nested more than {MAX_DEPTH} deep", pos) from None


def _compressed(data: Buffer, pos: int, text: bool, scalars: Scalars) -> tuple[Any, int]:
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
        value, end = _top(inner, 0, text, scalars)
        if end != size:
            raise DecodeError("bytes left over after the term", end)
    except DecodeError as error:
        raise DecodeError(f"in the compressed term: {error}", pos) from None
    return value, len(data) - len(inflater.unused_data)


def _read(
    data: Buffer,
    pos: int,
    text: bool,
    scalars: Scalars,
    keyed: bool = False,
    frozen: bool = False,
    depth: int = 0,
) -> tuple[Any, int]:
    """The term at `pos`, without version byte, and the offset after it.

    A container that is open is a _Frame: a list waits for one more element, its tail, a map for two
    for each entry; what lies in a map key is frozen. `keyed` is the second try at a term in which
    keys collide. `depth` containers are open already.
    """
    stack: list[_Frame] = []
    items: list[Any] = []
    need, kind, size = 1, _ROOT, len(data)
    quick = text and type(data) is bytes
    try:
        while True:
            tag = data[pos]
            if tag == 109 and quick and (length := _U32_AT(data, pos + 1)[0]) <= SHORT_TEXT:
                start = pos + 5
                end = start + length
                if end > size:
                    raise DecodeError("truncated", pos)
                items.append(data[start:end].decode())  # type: ignore[union-attr]
                pos = end
            elif tag == 97:
                if need - len(items) > SHORT_RUN and data[pos + 2] == 97:
                    pos = small_integers(data, pos, need - len(items), items)
                else:
                    items.append(data[pos + 1])
                    pos += 2
            elif tag in scalars:
                if tag in RUNS and need - len(items) > SHORT_RUN:
                    pos = RUNS[tag](data, pos, need - len(items), items)
                else:
                    value, pos = scalars[tag](data, pos, text)
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
                    inner = depth + len(stack) + 1
                    value, pos = _keyed_map(data, pos, text, scalars, count, inside, inner)
                items.append(value)
            while len(items) == need:
                if kind == _ROOT:
                    return items[0], pos
                value = _CLOSE[frozen][kind](items, pos)
                items, need, kind, frozen = stack.pop()
                items.append(value)
    except (IndexError, struct.error):
        raise DecodeError("truncated", pos) from None
    except UnicodeDecodeError as error:
        raise _not_utf8(error, pos, [*stack, (items, need, kind, frozen)]) from None


def _open(data: Buffer, pos: int, frozen: bool) -> tuple[Any, int, int, int]:
    """What the header at `pos` begins: (value, offset after it, elements, kind).

    With no elements the value is complete, else they follow and it means nothing.
    """
    tag = data[pos]
    if tag == 104:
        count, start, kind = data[pos + 1], pos + 2, _TUPLE
        if count == 2 and data[start] in _ATOM_TAGS:
            end = start + (2 + data[start + 1] if data[start] in b"sw" else 3 + data[start + 2])
            name = _WRAPPER_ATOMS.get(bytes(data[start:end]))
            if name is not None and bytes(data[end : end + 3]).startswith(_WRAPPERS[name]):
                value, end = _unwrap(data, name, start, end)
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


def _close_tuple(items: list[Any], _pos: int) -> tuple[Any, ...]:
    return tuple(items)


def _close_list(items: list[Any], _pos: int) -> Any:
    tail = items.pop()
    if isinstance(tail, list):
        items += tail
        return items
    return ImproperList(items, tail) if items else tail


def _close_frozen_list(items: list[Any], pos: int) -> Any:
    closed = _close_list(items, pos)
    try:
        return FrozenList(closed) if closed is items else closed
    except TypeError as error:
        raise _no_key(error, pos) from None


def _close_map(items: list[Any], pos: int) -> Any:
    pairs = iter(items)
    try:
        value = dict(zip(pairs, pairs))  # noqa: B905 - twice the same iterator
    except TypeError as error:
        raise _no_key(error, pos) from None
    if 2 * len(value) != len(items):
        raise _SameKeyError
    return of_struct(value) if STRUCT in value else value


def _close_frozen_map(items: list[Any], pos: int) -> Any:
    return _frozen(_close_map(items, pos), pos)


def _frozen(value: Any, pos: int) -> Any:
    """A map, or what a struct means, as it is in a map key."""
    kind = type(value)
    try:
        return FrozenDict(value) if kind is dict else frozenset(value) if kind is set else value
    except TypeError as error:
        raise _no_key(error, pos) from None


def _no_key(error: TypeError, pos: int) -> DecodeError:
    """The error for a {msgpack, B} in a map key, if it is a value that Python cannot hash."""
    return DecodeError(f"a map key cannot be hashed ({error}) before", pos)


# By whether they lie in a map key, then by kind. They take the elements, and the offset after them.
_CLOSE: Final[tuple[tuple[Callable[[list[Any], int], Any], ...], ...]] = (
    (_close_tuple, _close_list, _close_map),
    (_close_tuple, _close_frozen_list, _close_frozen_map),
)


def _keyed_map(
    data: Buffer, pos: int, text: bool, scalars: Scalars, count: int, frozen: bool, depth: int
) -> tuple[Any, int]:
    """The map of `count` keys and values that begin at `pos`, and the offset after it.

    Reads it key by key, so that the bytes of each are at hand: all keys that are equal to another
    become MapKeys, whichever comes first, since the order of a large map is anything.
    """
    entries: list[tuple[Any, bytes, Any]] = []
    for _ in range(count // 2):
        start = pos
        key, pos = _read(data, pos, text, scalars, keyed=True, frozen=True, depth=depth)
        raw = bytes(data[start:pos])
        entry, pos = _read(data, pos, text, scalars, keyed=True, frozen=frozen, depth=depth)
        entries.append((key, raw, entry))
    try:
        times = Counter([key for key, _, _ in entries])
        value = {key if times[key] == 1 else MapKey(raw, key): entry for key, raw, entry in entries}
        if len(value) != len(entries):
            raise DecodeError("a map has the same key twice before", pos)
    except TypeError as error:
        raise _no_key(error, pos) from None
    meant = of_struct(value) if STRUCT in value else value
    return _frozen(meant, pos) if frozen else meant, pos


def _unwrap(data: Buffer, name: bytes, start: int, pos: int) -> tuple[Any, int]:
    """The value of a tuple of two whose name begins at `start`, and its second term at `pos`."""
    if name == b"py_channel":
        (pid, available), end = _read(data, pos, False, SCALARS)
        return incoming.arrived(pid, available), end
    if name == b"py_handle":
        (keeper, worker, identity), end = _read(data, pos, False, SCALARS)
        return handles.arrived(keeper, worker, identity), end
    end = pos + 5 + _U32_AT(data, pos + 1)[0]
    if end > len(data):
        raise DecodeError("truncated", pos)
    payload = data[pos + 5 : end]
    if name == b"bytes":
        return bytes(payload), end
    try:
        import msgpack
    except ImportError:
        raise DecodeError(
            "{msgpack, B} needs the Python package 'msgpack', which is not installed:", start
        ) from None
    try:
        return msgpack.unpackb(payload, strict_map_key=False), end
    except Exception as error:
        # Whatever the library makes of bytes that are no MessagePack: it has no one base class.
        reason = f"{type(error).__name__}: {error}"
        raise DecodeError(f"{{msgpack, B}} cannot be unpacked ({reason})", start) from None


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
