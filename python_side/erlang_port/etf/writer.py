"""Writes the External Term Format exactly: Python values to bytes, whatever erlpack can do.

The reference for what a value means in Erlang, and the way for all that erlpack (see `encoder`)
cannot write. Like the reader it is one loop with a stack of its own.

The tags written are INTEGER_EXT and its larger kin, NEW_FLOAT_EXT, the UTF-8 atoms, BINARY_EXT,
BIT_BINARY_EXT, tuples, LIST_EXT, NIL_EXT and MAP_EXT, and the bytes that opaque terms came in. OTP
25 to 29 read all of them ("External Term Format", ERTS user's guide).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from types import NoneType

from erlang_port.etf.terms import (
    Atom,
    Bitstring,
    FrozenDict,
    FrozenList,
    Fun,
    ImproperList,
    MapKey,
    Pid,
    Port,
    Reference,
)
from erlang_port.hints import Any, Final, TypeAlias

__all__ = ("MAX_DEPTH", "VERSION", "Writer", "encode", "safe_keys")

VERSION: Final = 131

MAX_DEPTH: Final = 1_000
"""How many containers may lie in each other, in both directions.

Larger: hashing a map key that is a deep tuple, which C code does by recursion, may overflow the
stack of a thread. Smaller: terms that are deep for a reason are refused.
"""

MAX_INTEGER_BYTES: Final = 524_280
"""The bytes of the largest integer that OTP 27 to 29 read (found by trying); past it
binary_to_term/1 fails. OTP 25 reads eight times as many, but values go on to other nodes."""

_U32_MAX: Final = (1 << 32) - 1

_INTEGER = struct.Struct(">Bi")
_FLOAT = struct.Struct(">Bd")
_HEAD8 = struct.Struct(">BB")
_HEAD16 = struct.Struct(">BH")
_HEAD32 = struct.Struct(">BI")
_BITS = struct.Struct(">BIB")
_SMALL_INTEGERS: Final = tuple(bytes((97, value)) for value in range(256))

Append: TypeAlias = Callable[[bytes], object]


class _Encoded(bytes):
    """A term that is encoded already."""

    __slots__ = ()


def _integer(value: int, append: Append) -> None:
    if 0 <= value <= 255:
        append(_SMALL_INTEGERS[value])
        return
    if -0x8000_0000 <= value <= 0x7FFF_FFFF:
        append(_INTEGER.pack(98, value))
        return
    magnitude, sign = (value, 0) if value >= 0 else (-value, 1)
    size = (magnitude.bit_length() + 7) // 8
    if size > MAX_INTEGER_BYTES:
        raise ValueError(
            f"an integer of {size} bytes is larger than Erlang's largest ({MAX_INTEGER_BYTES})"
        )
    head = bytes((110, size, sign)) if size < 256 else _HEAD32.pack(111, size) + bytes((sign,))
    append(head + magnitude.to_bytes(size, "little"))


def _float(value: float, append: Append) -> None:
    if value - value == 0.0:
        append(_FLOAT.pack(70, value))
    elif value != value:
        append(b"w\x03nan")
    else:
        append(b"w\x08infinity" if value > 0 else b"w\x0cneg_infinity")


def _bool(value: bool, append: Append) -> None:
    append(b"w\x04true" if value else b"w\x05false")


def _str(value: str, append: Append) -> None:
    _bytes(value.encode("utf-8"), append)


def _bytes(value: bytes, append: Append) -> None:
    append(_HEAD32.pack(109, _sized(value, "binary")))
    append(value)


def atom_bytes(name: str) -> bytes:
    """The encoding of an atom."""
    data = name.encode("utf-8")
    size = len(data)
    return (_HEAD8.pack(119, size) if size < 256 else _HEAD16.pack(118, size)) + data


def _atom(value: Atom, append: Append) -> None:
    append(atom_bytes(value))


def _raw(value: Pid | Reference | Port | Fun | MapKey, append: Append) -> None:
    append(value.raw)


def _encoded(value: _Encoded, append: Append) -> None:
    append(value)


def _bitstring(value: Bitstring, append: Append) -> None:
    used = value.size % 8
    if used:
        append(_BITS.pack(77, _sized(value.data, "bit string"), used))
        append(value.data)
    else:
        _bytes(value.data, append)


def _sized(value: Any, what: str) -> int:
    size = len(value)
    if size > _U32_MAX:
        raise ValueError(
            f"a {what} of {size} elements is larger than {_U32_MAX}, the format's limit"
        )
    return size


Scalar: TypeAlias = Callable[[Any, Append], None]
# Appends the header; returns the elements, and the bytes that come after them.
Opener: TypeAlias = Callable[[Any, Append, int], tuple[Iterable[Any], bytes]]

_SCALARS: Final[dict[type, Scalar]] = {
    int: _integer,
    float: _float,
    bool: _bool,
    str: _str,
    bytes: _bytes,
    Atom: _atom,
    Pid: _raw,
    Reference: _raw,
    Port: _raw,
    Fun: _raw,
    MapKey: _raw,
    Bitstring: _bitstring,
    _Encoded: _encoded,
}

# Kinds of keys that are different terms whenever they are different keys in Python, if a dict has
# only kinds of one set. (A str equals the Atom of its name, so a dict cannot have both; but it can
# have both "a" and b"a", both None and Atom("none"), two NaNs.)
_DISTINCT_NAMES: Final = frozenset((str, Atom, int))
_DISTINCT_TEXTS: Final = frozenset((str, int, bool, NoneType))
_DISTINCT_BYTES: Final = frozenset((bytes, int, bool, NoneType))


def safe_keys(kinds: set[type]) -> bool:
    """Whether keys of these exact types can never become the same Erlang term twice."""
    return kinds <= _DISTINCT_NAMES or kinds <= _DISTINCT_TEXTS or kinds <= _DISTINCT_BYTES


def _refuse(value: object) -> Any:
    raise TypeError(f"the External Term Format has no type for a {type(value).__name__!r}")


class Writer:
    """Encodes values; one that is none of the exact types it knows goes through `convert` first.

    `none` is the atom that None becomes. `convert` takes a value and returns one that is a step
    closer to the types known, or raises.
    """

    __slots__ = ("_containers", "_convert", "_scalars")

    def __init__(self, none: str = "none", convert: Callable[[Any], Any] = _refuse) -> None:
        encoded_none = atom_bytes(none)

        def write_none(_value: None, append: Append) -> None:
            append(encoded_none)

        self._scalars: dict[type, Scalar] = {**_SCALARS, NoneType: write_none}
        self._convert = convert
        self._containers: dict[type, Opener] = {
            list: _open_list,
            FrozenList: _open_list,
            tuple: _open_tuple,
            dict: self._open_dict,
            FrozenDict: self._open_dict,
            ImproperList: _open_improper,
        }

    def buffers(self, value: Any, depth: int = 0) -> list[bytes]:
        """Pieces whose concatenation is the term, without version byte.

        Raises TypeError for a value that cannot be sent, ValueError for a cycle or for nesting past
        MAX_DEPTH, UnicodeEncodeError for a lone surrogate, and what `convert` raises.
        """
        found: list[bytes] = []
        append = found.append
        scalars, containers = self._scalars, self._containers
        # One entry for each container that is open: the elements still to come, the bytes that end
        # it, and the container, which also keeps its id its own.
        stack: list[tuple[Iterator[Any], Any, Any]] = []
        open_ids: set[int] = set()
        elements: Iterator[Any] = iter((value,))
        end: Any = b""
        container: Any = None
        while True:
            for item in elements:
                scalar = scalars.get(type(item))
                if scalar is not None:
                    scalar(item, append)
                    continue
                opener = containers.get(type(item))
                if opener is None:
                    item = self._known(item)
                    scalar = scalars.get(type(item))
                    if scalar is not None:
                        scalar(item, append)
                        continue
                    opener = containers[type(item)]
                if id(item) in open_ids:
                    raise ValueError("a value that contains itself cannot be sent to Erlang")
                if len(stack) + depth >= MAX_DEPTH:
                    raise too_deep()
                stack.append((elements, end, container))
                open_ids.add(id(item))
                inner, end = opener(item, append, depth + len(stack))
                container, elements = item, iter(inner)
                break
            else:
                if not stack:
                    return found
                append(end)
                open_ids.discard(id(container))
                elements, end, container = stack.pop()

    def _known(self, value: Any) -> Any:
        """The value after as many conversions as it takes to reach a type that can be written."""
        for _ in range(MAX_DEPTH):
            value = self._convert(value)
            if type(value) in self._scalars or type(value) in self._containers:
                return value
        raise too_deep()

    def _open_dict(
        self, value: dict[Any, Any], append: Append, depth: int
    ) -> tuple[Iterable[Any], bytes]:
        entries: Iterable[tuple[Any, Any]] = tuple(value.items())
        append(_HEAD32.pack(116, _sized(entries, "map")))
        if not safe_keys({type(key) for key, _ in entries}):
            entries = self._distinct(entries, depth)
        return chain.from_iterable(entries), b""

    def _distinct(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> list[tuple[_Encoded, Any]]:
        """The entries with encoded keys, in order of those; ValueError if two are the same.

        The order makes the encoding of a dict inside a key the same for equal dicts.
        """
        try:
            entries = [
                (_Encoded(b"".join(self.buffers(key, depth))), key, entry) for key, entry in pairs
            ]
        except RecursionError:
            raise too_deep() from None
        entries.sort(key=lambda entry: entry[0])
        for (one, first, _), (other, second, _) in pairwise(entries):
            if one == other:
                raise ValueError(
                    f"two keys of a dict are the same term in Erlang: {first!r} and {second!r}"
                )
        return [(encoded, entry) for encoded, _key, entry in entries]


def too_deep(limit: int = MAX_DEPTH) -> ValueError:
    """The error for a value that nests past `limit`, as one does that contains itself."""
    return ValueError(f"a value nested more than {limit} deep cannot be sent to Erlang")


def _open_list(value: list[Any], append: Append, _depth: int) -> tuple[Any, bytes]:
    # A copy, so that another thread that appends now cannot make the count a lie.
    items = tuple(value)
    if items:
        append(_HEAD32.pack(108, _sized(items, "list")))
    return items, b"j"


def _open_tuple(value: tuple[Any, ...], append: Append, _depth: int) -> tuple[Any, bytes]:
    size = _sized(value, "tuple")
    append(_HEAD8.pack(104, size) if size < 256 else _HEAD32.pack(105, size))
    return value, b""


def _open_improper(value: ImproperList, append: Append, _depth: int) -> tuple[Any, bytes]:
    append(_HEAD32.pack(108, _sized(value.items, "list")))
    return (*value.items, value.tail), b""


_plain_writer = Writer()


def encode(value: Any) -> bytes:
    """The complete term of a value made of the exact types only, version byte first."""
    return b"".join([bytes((VERSION,)), *_plain_writer.buffers(value)])
