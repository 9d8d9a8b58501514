"""Reads the terms of the External Term Format that hold no others; `etf` reads the rest.

A reader takes the data, the offset of the term's tag, and whether binaries are str; it returns the
value and the offset after it, or raises DecodeError. Reading past the end it may also raise
IndexError or struct.error, which `etf` turns into a DecodeError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from erlang_port.etf.opaque import Fun, Pid, Port, Reference, received_opaque
from erlang_port.etf.structs import STRUCT, STRUCT_AS_STR
from erlang_port.etf.terms import Atom, Bitstring, received_atom
from erlang_port.hints import Any, Final, TypeAlias

__all__ = ("ATOMS_AS_STR", "SCALARS", "SHORT_TEXT", "Buffer", "DecodeError", "Scalar")

Buffer: TypeAlias = bytes | memoryview
Scalar: TypeAlias = Callable[[Buffer, int, bool], tuple[Any, int]]

SHORT_TEXT: Final = 4_096
"""Bytes up to which a binary is copied before it is decoded. Larger: copies that could be saved.
Smaller: a view is made, which costs more than the copy."""

_MAX_CACHED_ATOMS: Final = 50_000
"""How many encoded atoms are remembered. Larger: more memory. Smaller: atoms past it are decoded
each time."""

_U16 = struct.Struct(">H")
_U32_AT = struct.Struct(">I").unpack_from
_F64 = struct.Struct(">d")
_INTEGER = struct.Struct(">i")
_OLD_FLOAT: Final = rb" *[+-]?\d+\.\d+(?:[eE][+-]?\d+)?\0*"


class DecodeError(ValueError):
    """The bytes are not one complete term. `offset` is where, counted from the first byte given."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at offset {offset}")
        self.message = message
        self.offset = offset

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, int]]:
        return DecodeError, (self.message, self.offset)


def _binary(data: Buffer, pos: int, text: bool) -> tuple[str | bytes, int]:
    start = pos + 5
    end = start + _U32_AT(data, pos + 1)[0]
    if end > len(data):
        raise DecodeError("truncated", pos)
    if not text:
        return bytes(data[start:end]), end
    if end - start > SHORT_TEXT:
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
    import re  # No node writes such floats any more, but for who asks for them.

    end = pos + 32
    digits = bytes(data[pos + 1 : end])
    if end > len(data) or not re.fullmatch(_OLD_FLOAT, digits):
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


def _short_name(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    value, end = _short_atom(data, pos, text)
    return (_name(value), end) if type(value) is Atom else (value, end)


def _long_name(data: Buffer, pos: int, text: bool) -> tuple[Any, int]:
    value, end = _long_atom(data, pos, text)
    return (_name(value), end) if type(value) is Atom else (value, end)


def _name(atom: Atom) -> str:
    return STRUCT_AS_STR if atom == STRUCT else str(atom)


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
    """A reader for: tag, U16 words, node name, creation of `creation` bytes, words of 4 bytes."""

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


SCALARS: Final[dict[int, Scalar]] = {
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

#: The same for the option `atoms => str`. What is a value of Python's own, such as true, stays one.
ATOMS_AS_STR: Final[dict[int, Scalar]] = {
    **SCALARS,
    100: _long_name,
    115: _short_name,
    118: _long_name,
    119: _short_name,
}
