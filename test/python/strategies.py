"""Hypothesis strategies for all that crosses, and what it has to be on the other side."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import os
import pathlib
import struct
import uuid
from collections import OrderedDict, UserDict, UserList, deque, namedtuple
from types import MappingProxyType
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

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

# The same examples in each run, unless more than usual are asked for; then Hypothesis prints how
# to repeat one that fails, and --hypothesis-seed fixes all of them.
EXAMPLES = int(os.environ.get("ERLANG_PYTHON_EXAMPLES", "0"))
settings.register_profile(
    "codec",
    derandomize=not EXAMPLES,
    # The second run of the same tests, without erlpack, is a shorter one.
    max_examples=EXAMPLES or (100 if "ERLANG_PYTHON_NO_ERLPACK" in os.environ else 300),
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("codec")

ATOM_NAMES = ("", "a", "ok", "true", "none", "nil", "nan", "bytes", "é", "中", "😀", "é" * 255)


class Color(enum.Enum):
    RED = "red"
    BLUE = 2
    BOTH = (1, None)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 1 << 70


class Text(str):
    __slots__ = ()


class Number(float):
    pass


class Row(dict[Any, Any]):
    pass


class Own:
    """Says itself how it goes."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __erlang__(self) -> Any:
        return self.value


Point = namedtuple("Point", "x y")


@dataclasses.dataclass
class Record:
    name: Any
    value: Any


def edges(*bits: int) -> list[int]:
    """The integers around each power of two, and their negatives."""
    return [sign * (1 << n) + d for n in bits for d in (-1, 0, 1) for sign in (1, -1)]


EDGES = edges(8, 16, 27, 31, 32, 59, 60, 63, 64, 65, 2040, 2048)
# Drawn by number, as Hypothesis would print all of them over and over.
integers = (
    st.integers(-300, 300)
    | st.integers(-(1 << 66), 1 << 66)
    | st.integers(0, len(EDGES) - 1).map(lambda at: EDGES[at])
    | st.binary(max_size=400).map(lambda data: int.from_bytes(data, "little", signed=True))
)
texts = st.text(max_size=20)
atoms = st.integers(0, len(ATOM_NAMES) - 1).map(lambda at: Atom(ATOM_NAMES[at]))
bitstrings = st.builds(
    lambda data, spare: Bitstring(data, 8 * len(data) - spare),
    st.binary(min_size=1, max_size=9),
    st.integers(1, 7),
)
opaques = st.sampled_from(
    [
        Pid(b"Xw\x03a@b" + bytes(range(12))),
        Port(b"xw\x03a@b" + bytes(12)),
        Reference(b"Z\0\3w\x03a@b" + bytes(range(16))),
        Fun(b"qw\x05listsw\x03mapa\x02"),
    ]
)
# What is a term itself, and hashable; floats are finite.
scalars = (
    st.none()
    | st.booleans()
    | integers
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary(max_size=20)
    | atoms
    | bitstrings
    | opaques
)
numbers = st.lists(integers, max_size=40) | st.lists(st.integers(0, 255), max_size=40)
floats = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40)

keys = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(FrozenList)
        | st.dictionaries(inner, inner, max_size=2).map(FrozenDict)
    ),
    max_leaves=4,
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(texts, inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(ImproperList, st.lists(inner, min_size=1, max_size=3), scalars)
    )


terms = st.recursive(scalars | numbers | floats, _containers, max_leaves=25)
"""Values made only of what is a term itself."""

converted: st.SearchStrategy[Any] = (
    st.sampled_from([math.nan, math.inf, -math.inf, *Color, *Level])
    | st.sets(integers, max_size=4)
    | st.frozensets(texts, max_size=4)
    | st.binary(max_size=9).map(bytearray)
    | st.binary(max_size=9).map(lambda value: memoryview(value))
    | texts.map(Text)
    | st.lists(integers, max_size=4).map(deque)
    | st.builds(range, st.integers(-300, 300), st.integers(-300, 300), st.sampled_from([1, -1, 99]))
    | st.floats(allow_nan=True).map(Number)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.decimals()
    | st.uuids()
    | st.sampled_from(["a", "/a/b", "é"]).map(pathlib.PurePosixPath)
)


def _converted_containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        _containers(inner)
        | st.builds(Record, texts, inner)
        | st.builds(Point, inner, inner)
        | st.builds(Own, inner)
        | st.dictionaries(texts, inner, max_size=3).map(Row)
        | st.dictionaries(texts, inner, max_size=3).map(OrderedDict)
        | st.dictionaries(texts, inner, max_size=3).map(UserDict)
        | st.dictionaries(texts, inner, max_size=3).map(MappingProxyType)
        | st.dictionaries(texts, inner, max_size=3).map(dict.values)
        | st.dictionaries(texts, inner, max_size=3).map(dict.items)
        | st.lists(inner, max_size=3).map(UserList)
        | st.lists(inner, max_size=3).map(deque)
    )


values = st.recursive(scalars | converted, _converted_containers, max_leaves=25)
"""All that can be sent."""


# The meaning of a value, written a second time, as plainly as can be and with nothing of the code
# under test. Two values are the same term if their meanings are equal. `None` is the atom none, and
# so are nil and undefined, which come to Python as None; str and bytes are binaries.


def meaning(value: Any) -> Any:
    """A nested tuple that names the Erlang term of a value."""
    kind = type(value)
    if kind is FrozenList or kind is list:
        return ("list", *map(meaning, value))
    if kind is FrozenDict or issubclass(kind, dict):
        return ("map", *sorted(((meaning(k), meaning(v)) for k, v in value.items()), key=repr))
    if kind is ImproperList:
        return ("improper", *map(meaning, value.items), meaning(value.tail))
    if kind is MapKey:
        return meaning(value.value)
    for base, say in _MEANINGS:
        if issubclass(kind, base):
            return say(value)
    raise AssertionError(f"no meaning for {kind}")


def _atom(name: str) -> tuple[str, str]:
    return ("atom", "none" if name in ("nil", "undefined") else str(name))


def _float(value: float) -> tuple[str, Any]:
    if math.isfinite(value):
        return ("float", struct.pack(">d", value))
    return _atom("nan" if math.isnan(value) else "infinity" if value > 0 else "neg_infinity")


def _tuple(*elements: Any) -> Any:
    """{bytes, B} is how bytes are said, and comes back as them."""
    if len(elements) == 2 and elements[0] == ("atom", "bytes") and elements[1][0] == "binary":
        return elements[1]
    return ("tuple", *elements)


def _list(value: Any) -> Any:
    return ("list", *map(meaning, value))


def _binary(value: Any) -> tuple[str, bytes]:
    return ("binary", value.encode() if isinstance(value, str) else bytes(value))


_MEANINGS: list[tuple[Any, Any]] = [
    (enum.Enum, lambda v: meaning(v.value)),
    (type(None), lambda v: _atom("none")),
    (bool, lambda v: _atom("true" if v else "false")),
    (Atom, _atom),
    (int, lambda v: ("integer", int(v))),
    (float, _float),
    ((str, bytes, bytearray, memoryview), _binary),
    (tuple, lambda v: _tuple(*map(meaning, v))),
    ((set, frozenset, deque, range, type({}.values()), type({}.items())), _list),
    ((UserDict, MappingProxyType), lambda v: meaning(dict(v))),
    (UserList, _list),
    ((Pid, Port, Reference, Fun), lambda v: (type(v).__name__, v.fields())),
    (Bitstring, lambda v: ("bits", v.size, v.data)),
    (Own, lambda v: meaning(v.value)),
    (Record, lambda v: meaning({"name": v.name, "value": v.value})),
    ((datetime.date, datetime.time), lambda v: _binary(v.isoformat())),
    ((decimal.Decimal, uuid.UUID, pathlib.PurePath), lambda v: _binary(str(v))),
]


def same_key_twice(value: Any) -> bool:
    """Whether some dict inside has keys that are one term in Erlang, so that it cannot be sent."""
    if isinstance(value, Own):
        return same_key_twice(value.value)
    if isinstance(value, Record):
        return same_key_twice(value.name) or same_key_twice(value.value)
    if isinstance(value, ImproperList):
        return any(map(same_key_twice, (*value.items, value.tail)))
    if isinstance(value, dict):
        names = [repr(sent(meaning(key), key)) for key in value]
        inside = any(map(same_key_twice, (*value, *value.values())))
        return inside or len(set(names)) < len(names)
    if isinstance(value, (UserDict, MappingProxyType)):
        return same_key_twice(dict(value))
    if isinstance(value, (list, tuple, deque, UserList, type({}.values()), type({}.items()))):
        return any(map(same_key_twice, value))
    return False


def sent(meant: Any, value: Any) -> Any:
    """The meaning, but with nil and undefined kept apart from none where they are sent."""
    if isinstance(value, Atom):
        return ("atom", str(value))
    if isinstance(value, FrozenDict):
        pairs = ((sent(meaning(k), k), sent(meaning(v), v)) for k, v in value.items())
        return ("map", *sorted(pairs, key=repr))
    if isinstance(value, (tuple, FrozenList)):
        return (meant[0], *(sent(meaning(item), item) for item in value))
    return meant
