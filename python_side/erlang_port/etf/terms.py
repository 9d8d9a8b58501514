"""The Erlang terms that Python has no type for.

Every class here is frozen, hashable, comparable with its own kind, and picklable. None of them
can be subclassed with a meaning of its own: what goes to Erlang is decided by the exact class.
"""

from __future__ import annotations

from collections.abc import Iterable

from erlang_port.etf.frozen import Frozen, FrozenDict, FrozenList, MapKey, refuse_change, set_once
from erlang_port.etf.opaque import Fun, Pid, Port, Reference
from erlang_port.hints import TYPE_CHECKING, Any, Final, NoReturn

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
    "MAX_CREATED_ATOMS",
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

MAX_CREATED_ATOMS: Final = 10_000
"""How many distinct atoms the Python code of one worker may invent.

Erlang never frees an atom, and a node holds 1,048,576 of them unless set otherwise. Larger: fewer
workers are enough to fill the node's table (104 of them with this number). Smaller: programs that
really use many names are refused. Atoms that came from the node do not count.
"""


class Atom(_Text):
    """An Erlang atom; equals, hashes and prints as its name.

    ``Atom(name)`` takes up to 255 characters, else ValueError. Past MAX_CREATED_ATOMS names that
    the node has not sent, a new name is a ValueError too.
    """

    __slots__ = ()

    __setattr__ = refuse_change
    __delattr__ = refuse_change

    def __new__(cls, name: str) -> Atom:
        if not isinstance(name, str):
            raise TypeError(f"an atom is made from a str, not from {type(name).__name__!r}")
        known = _known_atoms.get(name)
        if known is not None:
            return known
        if len(_created_atoms) >= MAX_CREATED_ATOMS:
            raise ValueError(
                f"this worker has made {MAX_CREATED_ATOMS} atoms of its own and may make no more: "
                "Erlang never frees an atom; send a str, which becomes a binary"
            )
        atom = received_atom(name)
        _created_atoms.add(atom)
        return atom

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("erlang.Atom cannot be subclassed")

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"

    def __reduce__(self) -> tuple[type[Atom], tuple[str]]:
        return Atom, (str.__str__(self),)


# One object per name. The names received are all in the node's own atom table, and those created
# are counted, so this cannot grow without bound.
_known_atoms: dict[str, Atom] = {}
_created_atoms: set[Atom] = set()


def received_atom(name: str) -> Atom:
    """The atom of a name that the node sent; not counted against MAX_CREATED_ATOMS.

    Raises ValueError for more than 255 characters, UnicodeEncodeError for a lone surrogate.
    """
    if len(name) > MAX_ATOM_CHARACTERS:
        raise ValueError(
            f"an atom has at most {MAX_ATOM_CHARACTERS} characters, this one has {len(name)}"
        )
    name.encode("utf-8")
    return _known_atoms.setdefault(name, str.__new__(Atom, name))


class Bitstring(Frozen):
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
        set_once(self, "data", data)
        set_once(self, "size", size)

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


class ImproperList(Frozen):
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
        set_once(self, "items", items)
        set_once(self, "tail", tail)

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
