"""Terms that only a node can make. Python keeps the bytes that they came in.

The layouts are those of the External Term Format (OTP documentation, ERTS user's guide).
"""

from __future__ import annotations

import struct

from erlang_port.etf.frozen import Frozen, set_once
from erlang_port.hints import Any

__all__ = ("Fun", "Opaque", "Pid", "Port", "Reference", "received_opaque")

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_ATOM_HEADS = {100: (3, "latin-1"), 115: (2, "latin-1"), 118: (3, "utf-8"), 119: (2, "utf-8")}


def _read_atom(raw: bytes, at: int) -> tuple[str, int]:
    """The atom that is encoded at `at`, and the offset after it."""
    head, encoding = _ATOM_HEADS[raw[at]]
    length = raw[at + 1] if head == 2 else _U16.unpack_from(raw, at + 1)[0]
    end = at + head + length
    if end > len(raw):
        raise ValueError("the atom is truncated")
    return raw[at + head : end].decode(encoding), end


class Opaque(Frozen, final=False):
    """A term that only the node can make: kept as the bytes it came in, and goes back as those.

    `raw` is the term in the External Term Format without the version byte. Terms are compared by
    their fields, as nodes of different releases write the same term differently; the order is total
    but not Erlang's.
    """

    __slots__ = ("_parts", "raw")
    raw: bytes
    _parts: tuple[Any, ...]

    def __init__(self, raw: bytes) -> None:
        raw = bytes(raw)
        try:
            set_once(self, "_parts", self._read(raw))
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise ValueError(f"not the encoding of an Erlang {type(self).__name__}") from error
        set_once(self, "raw", raw)

    @classmethod
    def _read(cls, raw: bytes) -> tuple[Any, ...]:
        """The fields of the term. Raises when the bytes are not such a term."""
        raise NotImplementedError

    def fields(self) -> tuple[Any, ...]:
        """What the term is made of: the node or module first, then numbers."""
        try:
            return self._parts
        except AttributeError:
            set_once(self, "_parts", self._read(self.raw))
            return self._parts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Opaque) or type(other) is not type(self):
            return NotImplemented
        return self.raw == other.raw or self.fields() == other.fields()

    def __hash__(self) -> int:
        return hash(self.fields())

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Opaque) or type(other) is not type(self):
            return NotImplemented
        return self.fields() < other.fields()

    def __le__(self, other: object) -> bool:
        if not isinstance(other, Opaque) or type(other) is not type(self):
            return NotImplemented
        return self.fields() <= other.fields()

    def __reduce__(self) -> tuple[type[Opaque], tuple[bytes]]:
        return type(self), (self.raw,)


def received_opaque(kind: type[Opaque], raw: bytes) -> Opaque:
    """A term that the decoder has already found to be well-formed; skips the check."""
    term = kind.__new__(kind)
    set_once(term, "raw", raw)
    return term


def _exactly(raw: bytes, end: int) -> None:
    if end != len(raw):
        raise ValueError("wrong length")


class OfNode(Opaque, final=False):
    """An opaque term whose first part is the node that made it."""

    __slots__ = ()

    @property
    def node(self) -> str:
        """The name of the node it was made on."""
        return str(self.fields()[0])


class Pid(OfNode):
    """An Erlang process identifier (NEW_PID_EXT, PID_EXT)."""

    __slots__ = ()

    @classmethod
    def _read(cls, raw: bytes) -> tuple[str, int, int, int]:
        creation_size = {88: 4, 103: 1}[raw[0]]
        node, at = _read_atom(raw, 1)
        _exactly(raw, at + 8 + creation_size)
        number, serial = struct.unpack_from(">II", raw, at)
        return node, number, serial, int.from_bytes(raw[at + 8 :], "big")

    def __repr__(self) -> str:
        node, number, serial, _creation = self.fields()
        return f"<erlang.Pid {number}.{serial} of {node}>"


class Reference(OfNode):
    """An Erlang reference (NEWER_REFERENCE_EXT, NEW_REFERENCE_EXT, REFERENCE_EXT)."""

    __slots__ = ()

    @classmethod
    def _read(cls, raw: bytes) -> tuple[str, tuple[int, ...], int]:
        if raw[0] == 101:
            node, at = _read_atom(raw, 1)
            _exactly(raw, at + 5)
            return node, _U32.unpack_from(raw, at), raw[at + 4]
        creation_size = {90: 4, 114: 1}[raw[0]]
        words = _U16.unpack_from(raw, 1)[0]
        if not 1 <= words <= 5:
            raise ValueError("a reference has one to five words")
        node, at = _read_atom(raw, 3)
        ids = at + creation_size
        _exactly(raw, ids + 4 * words)
        return node, struct.unpack_from(f">{words}I", raw, ids), int.from_bytes(raw[at:ids], "big")

    def __repr__(self) -> str:
        node, words, _creation = self.fields()
        return f"<erlang.Reference {'.'.join(map(str, reversed(words)))} of {node}>"


class Port(OfNode):
    """An Erlang port identifier (V4_PORT_EXT, NEW_PORT_EXT, PORT_EXT)."""

    __slots__ = ()

    @classmethod
    def _read(cls, raw: bytes) -> tuple[str, int, int]:
        id_size, creation_size = {120: (8, 4), 89: (4, 4), 102: (4, 1)}[raw[0]]
        node, at = _read_atom(raw, 1)
        middle = at + id_size
        _exactly(raw, middle + creation_size)
        return node, int.from_bytes(raw[at:middle], "big"), int.from_bytes(raw[middle:], "big")

    def __repr__(self) -> str:
        node, number, _creation = self.fields()
        return f"<erlang.Port {number} of {node}>"


class Fun(Opaque):
    """An Erlang fun: an export (EXPORT_EXT) or a local one (NEW_FUN_EXT)."""

    __slots__ = ()

    @classmethod
    def _read(cls, raw: bytes) -> tuple[str, str, int, bytes]:
        if raw[0] == 113:
            module, at = _read_atom(raw, 1)
            function, at = _read_atom(raw, at)
            _exactly(raw, at + 2)
            if raw[at] != 97:
                raise ValueError("the arity of an export is a small integer")
            return module, function, raw[at + 1], b""
        if raw[0] != 112:
            raise ValueError("not a fun")
        # Size (4, itself included), Arity (1), Uniq (16), Index (4), NumFree (4), Module, ...
        _exactly(raw, 1 + int(_U32.unpack_from(raw, 1)[0]))
        module, _at = _read_atom(raw, 30)
        return module, "", raw[5], raw

    @property
    def module(self) -> str:
        """The module it belongs to."""
        return str(self.fields()[0])

    @property
    def arity(self) -> int:
        """How many arguments it takes."""
        return int(self.fields()[2])

    def __repr__(self) -> str:
        module, function, arity, _local = self.fields()
        return f"<erlang.Fun {module}:{function or 'local'}/{arity}>"
