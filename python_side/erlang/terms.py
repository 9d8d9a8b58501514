"""The Erlang terms that Python has no type for.

Every class here is frozen, hashable, comparable with its own kind, and picklable. None of them
can be subclassed with a meaning of its own: what goes to Erlang is decided by the exact class.

Binary layouts are those of the External Term Format (OTP documentation, ERTS user's guide).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

if TYPE_CHECKING:
    _Text = str
else:
    # erlpack writes its own Atom class, and only that, as an atom. It is a plain str subclass.
    try:
        from erlpack import Atom as _Text
    except ImportError:
        _Text = str

__all__ = (
    "MAX_ATOM_CHARACTERS",
    "MAX_COINED_ATOMS",
    "Atom",
    "Bitstring",
    "FrozenDict",
    "FrozenList",
    "Fun",
    "ImproperList",
    "MapKey",
    "Pid",
    "Port",
    "Reference",
)

MAX_ATOM_CHARACTERS: Final = 255
"""Erlang's own limit on the length of an atom, in characters."""

MAX_COINED_ATOMS: Final = 10_000
"""How many distinct atoms the Python code of one worker may invent.

Erlang never frees an atom, and a node holds 1,048,576 of them unless told otherwise. Larger: fewer
workers are enough to fill the node's table (104 of them with this number). Smaller: programs that
really use many names are refused. Atoms that came from the node do not count.
"""


def _refuse_change(self: object, name: str, value: object = None) -> NoReturn:
    raise AttributeError(f"{type(self).__name__} is immutable: cannot change {name!r}")


class _Frozen:
    """No attribute can be set from outside, and no subclass made."""

    __slots__ = ()
    _sealed: ClassVar[bool] = False

    __setattr__ = _refuse_change
    __delattr__ = _refuse_change

    def __init_subclass__(cls, *, final: bool = True) -> None:
        if cls.__mro__[1]._sealed:  # type: ignore[attr-defined]
            raise TypeError(f"erlang.{cls.__mro__[1].__name__} cannot be subclassed")
        cls._sealed = final


_set = object.__setattr__


class Atom(_Text):
    """An Erlang atom; equals, hashes and prints as its name.

    ``Atom(name)`` takes up to 255 characters, else ValueError. Past MAX_COINED_ATOMS names that the
    node has not sent, a new name is a ValueError too.
    """

    __slots__ = ()

    __setattr__ = _refuse_change
    __delattr__ = _refuse_change

    def __new__(cls, name: str) -> Atom:
        if not isinstance(name, str):
            raise TypeError(f"an atom is made from a str, not from {type(name).__name__!r}")
        known = _known_atoms.get(name)
        if known is not None:
            return known
        if len(_coined_atoms) >= MAX_COINED_ATOMS:
            raise ValueError(
                f"this worker has made {MAX_COINED_ATOMS} atoms of its own and may make no more: "
                "Erlang never frees an atom; send a str, which becomes a binary"
            )
        atom = received_atom(name)
        _coined_atoms.add(atom)
        return atom

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("erlang.Atom cannot be subclassed")

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"

    def __reduce__(self) -> tuple[type[Atom], tuple[str]]:
        return Atom, (str.__str__(self),)


# One object per name. The names received are all in the node's own atom table, and those coined
# are counted, so this cannot grow without bound.
_known_atoms: dict[str, Atom] = {}
_coined_atoms: set[Atom] = set()


def received_atom(name: str) -> Atom:
    """The atom of a name that the node sent; not counted against MAX_COINED_ATOMS.

    Raises ValueError for more than 255 characters, UnicodeEncodeError for a lone surrogate.
    """
    if len(name) > MAX_ATOM_CHARACTERS:
        raise ValueError(
            f"an atom has at most {MAX_ATOM_CHARACTERS} characters, this one has {len(name)}"
        )
    name.encode("utf-8")
    return _known_atoms.setdefault(name, str.__new__(Atom, name))


_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_PID = struct.Struct(">III")
_ATOM_HEADS = {100: (3, "latin-1"), 115: (2, "latin-1"), 118: (3, "utf-8"), 119: (2, "utf-8")}


def _read_atom(raw: bytes, at: int) -> tuple[str, int]:
    """The atom that is encoded at `at`, and the offset after it."""
    head, encoding = _ATOM_HEADS[raw[at]]
    length = raw[at + 1] if head == 2 else _U16.unpack_from(raw, at + 1)[0]
    end = at + head + length
    if end > len(raw):
        raise ValueError("the atom is truncated")
    return raw[at + head : end].decode(encoding), end


class _Opaque(_Frozen, final=False):
    """A term that only the node can make: kept as the bytes it came in, and goes back as those.

    `raw` is the term in the External Term Format without the version byte. Terms are compared by
    their parts, as nodes of different releases write the same term differently; the order is total
    but not Erlang's.
    """

    __slots__ = ("_parts", "raw")
    raw: bytes
    _parts: tuple[Any, ...]

    def __init__(self, raw: bytes) -> None:
        raw = bytes(raw)
        try:
            _set(self, "_parts", self._read(raw))
        except (KeyError, IndexError, ValueError, struct.error) as error:
            raise ValueError(f"not the encoding of an Erlang {type(self).__name__}") from error
        _set(self, "raw", raw)

    @classmethod
    def _read(cls, raw: bytes) -> tuple[Any, ...]:
        """The parts of the term. Raises when the bytes are not such a term."""
        raise NotImplementedError

    def parts(self) -> tuple[Any, ...]:
        """What the term is made of: the node or module first, then numbers."""
        try:
            return self._parts
        except AttributeError:
            _set(self, "_parts", self._read(self.raw))
            return self._parts

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Opaque) or type(other) is not type(self):
            return NotImplemented
        return self.raw == other.raw or self.parts() == other.parts()

    def __hash__(self) -> int:
        return hash(self.parts())

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, _Opaque) or type(other) is not type(self):
            return NotImplemented
        return self.parts() < other.parts()

    def __le__(self, other: object) -> bool:
        if not isinstance(other, _Opaque) or type(other) is not type(self):
            return NotImplemented
        return self.parts() <= other.parts()

    def __reduce__(self) -> tuple[type[_Opaque], tuple[bytes]]:
        return type(self), (self.raw,)


def received_opaque(kind: type[_Opaque], raw: bytes) -> _Opaque:
    """A term that the decoder has already found to be well-formed; skips the check."""
    term = kind.__new__(kind)
    _set(term, "raw", raw)
    return term


def _exactly(raw: bytes, end: int) -> None:
    if end != len(raw):
        raise ValueError("wrong length")


class Pid(_Opaque):
    """An Erlang process identifier (NEW_PID_EXT, PID_EXT)."""

    __slots__ = ()

    @classmethod
    def _read(cls, raw: bytes) -> tuple[str, int, int, int]:
        creation_size = {88: 4, 103: 1}[raw[0]]
        node, at = _read_atom(raw, 1)
        _exactly(raw, at + 8 + creation_size)
        number, serial = struct.unpack_from(">II", raw, at)
        return node, number, serial, int.from_bytes(raw[at + 8 :], "big")

    @property
    def node(self) -> str:
        """The name of the node it was made on."""
        return str(self.parts()[0])

    def __repr__(self) -> str:
        node, number, serial, _creation = self.parts()
        return f"<erlang.Pid {number}.{serial} of {node}>"


class Reference(_Opaque):
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

    @property
    def node(self) -> str:
        """The name of the node it was made on."""
        return str(self.parts()[0])

    def __repr__(self) -> str:
        node, words, _creation = self.parts()
        return f"<erlang.Reference {'.'.join(map(str, reversed(words)))} of {node}>"


class Port(_Opaque):
    """An Erlang port identifier (V4_PORT_EXT, NEW_PORT_EXT, PORT_EXT)."""

    __slots__ = ()

    @classmethod
    def _read(cls, raw: bytes) -> tuple[str, int, int]:
        id_size, creation_size = {120: (8, 4), 89: (4, 4), 102: (4, 1)}[raw[0]]
        node, at = _read_atom(raw, 1)
        middle = at + id_size
        _exactly(raw, middle + creation_size)
        return node, int.from_bytes(raw[at:middle], "big"), int.from_bytes(raw[middle:], "big")

    @property
    def node(self) -> str:
        """The name of the node it was made on."""
        return str(self.parts()[0])

    def __repr__(self) -> str:
        node, number, _creation = self.parts()
        return f"<erlang.Port {number} of {node}>"


class Fun(_Opaque):
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
        return str(self.parts()[0])

    @property
    def arity(self) -> int:
        """How many arguments it takes."""
        return int(self.parts()[2])

    def __repr__(self) -> str:
        module, function, arity, _local = self.parts()
        return f"<erlang.Fun {module}:{function or 'local'}/{arity}>"


class Bitstring(_Frozen):
    """A binary whose length is not a whole number of bytes.

    `data` holds the bits from the most significant one on, `size` is their number; what is left
    of the last byte is zero. ``Bitstring(b"\\xa0", 3)`` is ``<<2#101:3>>``.
    """

    __slots__ = ("data", "size")
    data: bytes
    size: int

    def __init__(self, data: bytes, size: int) -> None:
        data = bytes(data)
        if size < 0 or len(data) != (size + 7) // 8:
            raise ValueError(f"{size} bits do not take {len(data)} bytes")
        spare = -size % 8
        if spare and data[-1] & ((1 << spare) - 1):
            data = data[:-1] + bytes((data[-1] >> spare << spare,))
        _set(self, "data", data)
        _set(self, "size", size)

    def __len__(self) -> int:
        return self.size

    def __eq__(self, other: object) -> bool:
        if type(other) is not Bitstring:
            return NotImplemented
        return self.size == other.size and self.data == other.data

    def __lt__(self, other: object) -> bool:
        if type(other) is not Bitstring:
            return NotImplemented
        return (self.data, self.size) < (other.data, other.size)

    def __hash__(self) -> int:
        return hash((self.data, self.size))

    def __repr__(self) -> str:
        return f"Bitstring({self.data!r}, {self.size})"

    def __reduce__(self) -> tuple[type[Bitstring], tuple[bytes, int]]:
        return Bitstring, (self.data, self.size)


class ImproperList(_Frozen):
    """A list whose last tail is not the empty list: ``[1, 2 | 3]`` is ``ImproperList([1, 2], 3)``.

    Hashable where its elements and its tail are.
    """

    __slots__ = ("items", "tail")
    items: tuple[Any, ...]
    tail: Any

    def __init__(self, items: Iterable[Any], tail: Any) -> None:
        items = tuple(items)
        if not items:
            raise ValueError("an improper list has at least one element")
        if isinstance(tail, list):
            raise ValueError("a list that ends in a list is a proper list")
        _set(self, "items", items)
        _set(self, "tail", tail)

    def __eq__(self, other: object) -> bool:
        if type(other) is not ImproperList:
            return NotImplemented
        return self.items == other.items and bool(self.tail == other.tail)

    def __lt__(self, other: object) -> bool:
        if type(other) is not ImproperList:
            return NotImplemented
        return (self.items, self.tail) < (other.items, other.tail)

    def __hash__(self) -> int:
        return hash((self.items, self.tail))

    def __repr__(self) -> str:
        return f"ImproperList({list(self.items)!r}, {self.tail!r})"

    def __reduce__(self) -> tuple[type[ImproperList], tuple[list[Any], Any]]:
        return ImproperList, (list(self.items), self.tail)


class MapKey(_Frozen):
    """A map key that Python would hold equal to another key of the same map, as 1.0 is to 1.

    Terms that differ in Erlang may be equal in Python: ``1``, ``1.0`` and ``true``, ``a`` and
    ``<<"a">>``, ``none`` and ``nil``. Where a map has several of them as keys, all of those arrive
    wrapped, so that no entry is lost. A wrapped key goes back unchanged; it equals only one of the
    same bytes. `value` is what it would have been alone.
    """

    __slots__ = ("raw", "value")
    raw: bytes
    value: Any

    def __init__(self, raw: bytes, value: Any) -> None:
        _set(self, "raw", bytes(raw))
        _set(self, "value", value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not MapKey:
            return NotImplemented
        return self.raw == other.raw

    def __lt__(self, other: object) -> bool:
        if type(other) is not MapKey:
            return NotImplemented
        return self.raw < other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"MapKey({self.value!r})"

    def __reduce__(self) -> tuple[type[MapKey], tuple[bytes, Any]]:
        return MapKey, (self.raw, self.value)


def _refuse_mutation(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError(f"erlang.{type(self).__name__} is immutable")


class FrozenList(list[Any]):
    """A list in a map key: a list that cannot be changed, so that it can be hashed.

    Equals the list of the same elements.
    """

    __slots__ = ("_hash",)
    _hash: int

    def __init__(self, items: Iterable[Any] = ()) -> None:
        list.__init__(self, items)
        # Computed here, while the elements' own are at hand, so that no depth of nesting makes
        # hash() recurse.
        _set(self, "_hash", hash(("erlang.FrozenList", *self)))

    __setattr__ = _refuse_change
    __delattr__ = _refuse_change
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_mutation
    append = extend = insert = pop = remove = _refuse_mutation
    clear = reverse = sort = _refuse_mutation

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenList({list.__repr__(self)})"

    def __reduce__(self) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return FrozenList, (list(self),)

    def __reduce_ex__(self, protocol: object) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return self.__reduce__()


class FrozenDict(dict[Any, Any]):
    """A map in a map key: a dict that cannot be changed, so that it can be hashed.

    Equals the dict of the same entries.
    """

    __slots__ = ("_hash",)
    _hash: int

    def __init__(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = ()) -> None:
        dict.__init__(self, entries)
        _set(self, "_hash", hash(("erlang.FrozenDict", frozenset(self.items()))))

    __setattr__ = _refuse_change
    __delattr__ = _refuse_change
    __setitem__ = __delitem__ = __ior__ = _refuse_mutation
    clear = pop = popitem = setdefault = update = _refuse_mutation

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenDict({dict.__repr__(self)})"

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[Any, Any]]]:
        return FrozenDict, (dict(self),)

    def __reduce_ex__(self, protocol: object) -> tuple[type[FrozenDict], tuple[dict[Any, Any]]]:
        return self.__reduce__()
