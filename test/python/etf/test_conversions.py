"""What each type of Python becomes."""

from __future__ import annotations

import array
import csv
import dataclasses
import datetime
import decimal
import enum
import ipaddress
import math
import pathlib
import re
import uuid
from collections import (
    ChainMap,
    Counter,
    OrderedDict,
    UserDict,
    UserList,
    UserString,
    defaultdict,
    deque,
    namedtuple,
)
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import test_libraries
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.etf import conversions
from erlang_port.etf.conversions import RULES, convert, register_encoder
from erlang_port.etf.decoder import decode
from erlang_port.etf.erlpack_input import NotForErlpackError, to_erlpack
from erlang_port.etf.terms import Atom, Bitstring, FrozenDict, FrozenList, ImproperList, Pid
from erlang_port.etf.writer import Writer
from strategies import Color, Level, Own, Point, Record, Text, meaning, same_key_twice, values

DOCS = Path(__file__).resolve().parents[3] / "docs" / "types.md"
NONE = Atom("none")


@pytest.fixture(autouse=True)
def _no_encoders_are_left(monkeypatch):
    monkeypatch.setattr(conversions, "_registered", {})
    monkeypatch.setattr(conversions, "found", {})


def sent(value):
    """What comes back of a value that goes through the exact writer; binaries as bytes."""
    return decode(b"\x83" + b"".join(Writer("none", convert).buffers(value)), binaries="bytes")


class Flag(enum.Flag):
    A = 1
    B = 2


class WeirdEnum(int, enum.Enum):
    """An int whose value is something else."""

    def __new__(cls, number, value):
        member = int.__new__(cls, number)
        member._value_ = value
        return member

    X = 5, "five"


class Lying(dict[Any, Any]):
    """Overrides what its base does."""

    def __iter__(self):
        raise AssertionError

    items = keys = values = copy = __len__ = __iter__


class LyingStr(str):
    __slots__ = ()

    def __str__(self):
        return "lie"

    encode = __repr__ = __str__  # type: ignore[assignment]


class LyingBytes(bytes):
    __slots__ = ()

    def __bytes__(self):
        return b"lie"


class LyingList(list[Any]):
    def __iter__(self):
        raise AssertionError

    copy = __len__ = __iter__


class LyingTuple(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self):
        raise AssertionError


class LyingDeque(deque[Any]):
    def __iter__(self):
        raise AssertionError

    copy = __len__ = __iter__


class LyingInt(int):
    def __int__(self):
        return 0

    __index__ = __pos__ = __int__


class LyingFloat(float):
    def __float__(self):
        return 0.0


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("left", "right")
    left: object
    right: object


ROW = namedtuple("ROW", "id name")

# For each rule, by the words of its first column: a value, and what it becomes.
CASES: dict[str, list[tuple[Any, Any]]] = {
    "`enum.Enum` member": [
        (Color.RED, b"red"),
        (Color.BLUE, 2),
        (Color.BOTH, (1, None)),
        (Level.HIGH, 1 << 70),
        (Flag.A | Flag.B, 3),
        (WeirdEnum.X, b"five"),
    ],
    "`set`, `frozenset`": [({5}, [5]), (frozenset("a"), [b"a"]), (set(), [])],
    "`bytearray`": [(bytearray(b"\xff"), b"\xff"), (bytearray(), b"")],
    "`memoryview`": [
        (memoryview(b"abcd")[1:3], b"bc"),
        (memoryview(b"abcd")[::2], b"ac"),
        (memoryview(array.array("H", [1, 2])), array.array("H", [1, 2]).tobytes()),
    ],
    "subclass of `int`": [(LyingInt(7), 7)],
    "subclass of `float`": [(LyingFloat(1.5), 1.5), (LyingFloat("-0.0"), -0.0)],
    "subclass of `str`": [(Text("é"), "é".encode()), (LyingStr("a"), b"a")],
    "subclass of `bytes`": [(LyingBytes(b"a"), b"a")],
    "subclass of `list`": [(LyingList([1, 2]), [1, 2])],
    "subclass of `tuple`, such as a named tuple": [
        (Point(1, "a"), (1, b"a")),
        (LyingTuple((1, 2)), (1, 2)),
    ],
    "subclass of `dict`": [
        (OrderedDict(a=1), {b"a": 1}),
        (defaultdict(list, a=[1]), {b"a": [1]}),
        (Counter("aa"), {b"a": 2}),
        (Lying(a=1), {b"a": 1}),
    ],
    "`collections.deque`": [
        (deque([1, {2}], maxlen=2), [1, [2]]),
        (deque(), []),
        (LyingDeque([1]), [1]),
    ],
    "`range`": [(range(3), [0, 1, 2]), (range(5, 0, -2), [5, 3, 1]), (range(0), [])],
    "`keys()`, `values()`, `items()` of a dictionary": [
        ({"a": 1}.keys(), [b"a"]),
        ({"a": {1}}.values(), [[1]]),
        ({"a": None}.items(), [(b"a", None)]),
        (OrderedDict(a=1).keys(), [b"a"]),
        (MappingProxyType({"a": 1}).values(), [1]),
        (UserDict(a=1).items(), [(b"a", 1)]),
        (ChainMap({"a": 1}).keys(), [b"a"]),
    ],
    "`types.MappingProxyType`": [
        (MappingProxyType({"a": {1}}), {b"a": [1]}),
        (MappingProxyType(UserDict(a=1)), {b"a": 1}),
    ],
    "`UserDict`, `UserList`, `UserString`": [
        (UserDict(a={1}), {b"a": [1]}),
        (UserList([None]), [None]),
        (UserString("é"), "é".encode()),
    ],
    "`timedelta`": [
        (datetime.timedelta(), b"PT0S"),
        (datetime.timedelta(days=1), b"P1D"),
        (datetime.timedelta(days=1, hours=2, milliseconds=500), b"P1DT2H0.5S"),
        (datetime.timedelta(hours=25, minutes=1, seconds=10), b"P1DT1H1M10S"),
        (datetime.timedelta(microseconds=-1), b"-PT0.000001S"),
        (datetime.timedelta(days=-1, seconds=1), b"-PT23H59M59S"),
        (datetime.timedelta.max, b"P999999999DT23H59M59.999999S"),
        (datetime.timedelta.min, b"-P999999999D"),
    ],
    "dataclass instance": [
        (Record("a", [None]), {b"name": b"a", b"value": [None]}),
        (Slotted(1, Record(2, 3)), {b"left": 1, b"right": {b"name": 2, b"value": 3}}),
    ],
    "`datetime`, `date`, `time`": [
        (datetime.datetime(2024, 2, 29, 12, 30, 1, 5), b"2024-02-29T12:30:01.000005"),
        (datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc), b"2024-01-01T00:00:00+00:00"),
        (datetime.date(2024, 2, 29), b"2024-02-29"),
        (datetime.time(1, 2), b"01:02:00"),
    ],
    "`decimal.Decimal`": [
        (decimal.Decimal("1.10"), b"1.10"),
        (decimal.Decimal("-1E+400"), b"-1E+400"),
        (decimal.Decimal("NaN"), b"NaN"),
    ],
    "`uuid.UUID`": [(uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001")],
    "`pathlib` path": [
        (pathlib.PurePosixPath("/a/é"), "/a/é".encode()),
        (pathlib.Path("/a"), b"/a"),
        (pathlib.PurePosixPath("/a/\udcff"), b"/a/\xff"),
    ],
}


def same(one, other):
    return meaning(one) == meaning(other) and type(one) is type(other)


def test_each_rule_has_cases():
    """Here, or in the tests of the libraries."""
    assert {rule.python for rule in RULES} == {*CASES, *test_libraries.CASES}


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.python in CASES], ids=lambda rule: rule.python
)
def test_each_rule_by_its_cases(rule):
    for value, expected in CASES[rule.python]:
        assert same(sent(value), expected)
        assert same(sent([value, {"k": value}]), [expected, {b"k": expected}])
        assert rule.applies(type(value))


def test_the_documentation_has_the_same_table():
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|")[:2])
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    documented = [row for row in rows if row in {(rule.python, rule.erlang) for rule in RULES}]
    assert documented == [(rule.python, rule.erlang) for rule in RULES]


DURATION = re.compile(
    r"(-?)P(?=.)(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d*[1-9])?)S)?)?"
)


@given(st.timedeltas())
def test_a_duration_is_the_whole_timedelta(value):
    found = DURATION.fullmatch(sent(value).decode())
    assert found
    sign, *parts = found.groups()
    days, hours, minutes, seconds = (decimal.Decimal(part or 0) for part in parts)
    assert hours < 24
    assert minutes < 60
    assert seconds < 60
    micros = ((days * 24 + hours) * 60 + minutes) * 60_000_000 + seconds * 1_000_000
    assert datetime.timedelta(microseconds=int(-micros if sign else micros)) == value


def test_floats_that_are_not_finite_are_atoms():
    assert sent([math.nan, math.inf, -math.inf]) == ["nan", "infinity", "neg_infinity"]
    assert all(type(value) is Atom for value in sent([math.nan, math.inf, -math.inf]))


@pytest.mark.parametrize(
    "value",
    [
        object(),
        1j,
        (i for i in (1,)),
        iter([]),
        map(str, []),
        zip((), (), strict=True),
        csv.reader([]),
        array.array("b"),
        len,
        int,
        Color,
        Record,
        ValueError("x"),
        ipaddress.ip_address("::1"),
        ...,
        NotImplemented,
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_by_name(value):
    kind = type(value)
    name = f"'{kind.__module__}.{kind.__qualname__}'"
    for whole in (value, [value], {"a": (1, value)}, Record(1, value)):
        with pytest.raises(TypeError, match="cannot send a value of type") as raised:
            sent(whole)
        assert name in str(raised.value)
        advice = "make a list of it" if hasattr(value, "__next__") else "register_encoder"
        assert advice in str(raised.value)
        with pytest.raises(TypeError, match="cannot send a value of type"):
            to_erlpack(whole, NONE)


def test_dunder_erlang_says_how_a_type_goes():
    assert sent(Own(None)) is None
    assert sent([Own(Own({1}))]) == [[1]]

    class Named(str):
        __slots__ = ()

        def __erlang__(self):
            return Atom("named")

    class Child(Named):
        __slots__ = ()

    # Even for types that are subclasses of built-ins, and their subclasses.
    for named in (Named("x"), Child("x")):
        for whole in ([named, 1], {"k": named}, {named: 1}):
            assert "named" in str(sent(whole))


def test_an_instance_attribute_is_no_dunder_erlang():
    value = Record(1, 2)
    value.__erlang__ = lambda: 3  # type: ignore[attr-defined]
    assert sent(value) == {b"name": 1, b"value": 2}


def test_registered_encoders_come_first():
    class Base:
        def __erlang__(self):
            return "by itself"

    class Child(Base):
        pass

    assert sent(Child()) == b"by itself"
    register_encoder(Base, lambda value: ("base", type(value).__name__))
    assert sent(Child()) == (b"base", b"Child")
    register_encoder(Child, lambda value: {"child"})
    assert sent(Child()) == [b"child"]
    assert sent(Base()) == (b"base", b"Base")
    register_encoder(Child, lambda value: None)
    assert sent([Child()]) == [None]


def test_registered_encoders_for_types_with_a_rule():
    register_encoder(datetime.date, lambda value: (value.year, value.month, value.day))
    register_encoder(Text, lambda value: Atom("text"))
    register_encoder(Color, lambda value: value.name)
    assert sent(datetime.date(2024, 2, 3)) == (2024, 2, 3)
    assert sent(datetime.datetime(2024, 2, 3)) == (2024, 2, 3)
    assert sent([Text("a"), "a"]) == ["text", b"a"]
    assert sent(Color.BLUE) == b"BLUE"


@pytest.mark.parametrize("kind", [object, int, str, dict, type(None), bool, Atom, Pid, FrozenList])
def test_terms_cannot_be_registered(kind):
    with pytest.raises(ValueError, match="always goes to Erlang as itself"):
        register_encoder(kind, str)


def test_registering_needs_a_type_and_a_function():
    with pytest.raises(TypeError, match="needs a type"):
        register_encoder("int", str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a function"):
        register_encoder(Record, 5)  # type: ignore[arg-type]


def test_an_encoders_own_error_is_passed_on():
    class Boom:
        def __erlang__(self):
            raise LookupError("boom")

    for value in (Boom(), [1, Boom()]):
        with pytest.raises(LookupError, match="boom"):
            sent(value)
        with pytest.raises(LookupError, match="boom"):
            to_erlpack(value, NONE)


def test_an_encoder_that_never_ends_is_an_error():
    class Ever:
        def __erlang__(self):
            return Ever()

    class Deeper:
        def __erlang__(self):
            return [self]

    for value in (Ever(), Deeper(), {"a": [Ever()]}):
        with pytest.raises(ValueError, match="deep"):
            sent(value)
        with pytest.raises(NotForErlpackError):
            to_erlpack(value, NONE)


def test_many_types_do_not_stay(monkeypatch):
    monkeypatch.setattr(conversions, "_MAX_FOUND", 10)
    for i in range(30):
        assert sent(type(f"T{i}", (str,), {})("a")) == b"a"
        assert len(conversions.found) <= 10


class TestPlain:
    @pytest.mark.parametrize(
        "value",
        [
            *(1, "a", b"a", True, 1.5, Atom("a"), [], [1, 2], (1, "a"), {}, {"a": 1}),
            *([1.5] * 9, {1: 2, "a": b"b"}, {(1, 2): 3}, {Atom("a"): 1}, {b"a": 1}),
        ],
        ids=repr,
    )
    def test_what_erlpack_writes_right_stays_as_it_is(self, value):
        mended = to_erlpack(value, NONE)
        assert type(mended) is type(value)
        assert mended == value
        # Nobody else can change it.
        assert (mended is value) is (type(value) not in (list, dict))

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (None, NONE),
            ([None, 1], [NONE, 1]),
            ((None,), (NONE,)),
            ({"a": None, "b": 1.5}, {"a": NONE, "b": 1.5}),
            ([{"a": None}], [{"a": NONE}]),
            (math.nan, Atom("nan")),
            ([1.5, math.inf], [1.5, Atom("infinity")]),
            ([None, -math.inf], [NONE, Atom("neg_infinity")]),
            ({"a": math.nan}, {"a": Atom("nan")}),
            ([1e308] * 9, [1e308] * 9),
            ({1}, [1]),
            (FrozenList([None]), [NONE]),
            (FrozenDict({"a": None}), {"a": NONE}),
            ([Record(1, {2})], [{"name": 1, "value": [2]}]),
        ],
        ids=repr,
    )
    def test_the_rest_is_mended(self, value, expected):
        mended = to_erlpack(value, NONE)
        assert mended == expected
        assert meaning(mended) == meaning(value)

    @pytest.mark.parametrize(
        "value",
        [
            Pid(b"Xw\x03a@b" + bytes(12)),
            [Bitstring(b"\x80", 1)],
            {"a": ImproperList([1], 2)},
            {"a": 1, b"a": 2},
            {None: 1},
            {1.5: 1},
            {(1, (2,)): 1},
            {("a",): 1, (b"a",): 2},
            {Color.RED: 1},
        ],
        ids=repr,
    )
    def test_or_left_to_the_exact_writer(self, value):
        with pytest.raises(NotForErlpackError):
            to_erlpack(value, NONE)

    def test_nothing_is_changed_in_place(self):
        value: dict[str, Any] = {"a": None, "b": [None, {"c": math.nan}]}
        to_erlpack(value, NONE)
        assert value["a"] is value["b"][0] is None
        assert math.isnan(value["b"][1]["c"])

    @given(values)
    def test_means_the_same(self, value):
        try:
            mended = to_erlpack(value, NONE)
        except NotForErlpackError:
            return
        assert meaning(mended) == meaning(value)
        assert not same_key_twice(mended)
        _assert_exact(mended)


def _assert_exact(value):
    """Only what erlpack writes as the exact writer would (see conversions)."""
    kind = type(value)
    assert kind in (int, float, bool, str, bytes, Atom, list, tuple, dict, FrozenList, FrozenDict)
    if kind is float:
        assert math.isfinite(value)
    if kind in (list, tuple, FrozenList):
        for item in value:
            _assert_exact(item)
    if kind in (dict, FrozenDict):
        for item in (*value, *value.values()):
            _assert_exact(item)


@given(values)
def test_every_value_means_what_is_said(value):
    """The oracle, `meaning`, is written apart from the code."""
    if same_key_twice(value):
        with pytest.raises(ValueError, match="same term"):
            sent(value)
    else:
        assert meaning(sent(value)) == meaning(value)
