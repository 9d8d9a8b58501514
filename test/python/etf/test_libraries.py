"""What values of libraries become. None of the libraries is needed: its cases are skipped then."""

# The libraries may be missing, so that their types are not known here.
# mypy: disable-error-code="call-arg,misc"

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from erlang_port.etf.conversions import RULES, convert
from erlang_port.etf.decoder import decode
from erlang_port.etf.encoder import Encoder, encode_json
from erlang_port.etf.libraries import is_from
from erlang_port.etf.terms import Atom
from erlang_port.etf.writer import Writer
from strategies import meaning

UTC = datetime.timezone.utc


def sent(value: Any) -> Any:
    """What comes back of a value, which must be the same with erlpack and without."""
    exact = decode(b"\x83" + b"".join(Writer("none", convert).buffers(value)), binaries="bytes")
    fastest = decode(Encoder().encode(value), binaries="bytes")
    assert meaning(fastest) == meaning(exact)
    return exact


def same(one: Any, other: Any) -> bool:
    return meaning(one) == meaning(other) and type(one) is type(other)


def attrs_cases(attrs: Any) -> list[tuple[Any, Any]]:
    @attrs.define
    class Point:
        x: Any
        y: Any = attrs.field(factory=list)
        _hidden: int = 3

    @attrs.frozen(slots=False)
    class Frozen:
        inner: Any

    plain = {b"x": 1, b"y": [], b"_hidden": 3}
    return [
        (Point(1), plain),
        (Frozen({Point(1).x}), {b"inner": [1]}),
        (Frozen(Point(1)), {b"inner": plain}),
    ]


def pydantic_cases(pydantic: Any) -> list[tuple[Any, Any]]:
    class User(pydantic.BaseModel):
        id: int
        when: datetime.datetime = datetime.datetime(2024, 1, 1)
        secret: str = pydantic.Field(default="s", exclude=True)
        _private: int = pydantic.PrivateAttr(default=5)

    class Open(pydantic.BaseModel, extra="allow", frozen=True):
        model: User | None = None

    class Numbers(pydantic.RootModel[list[int]]):
        pass

    @pydantic.dataclasses.dataclass
    class Record:
        a: int

    plain = {b"id": 1, b"when": b"2024-01-01T00:00:00"}
    return [
        (User(id=1), plain),
        (Open(model=User(id="1"), more={1}), {b"model": plain, b"more": [1]}),
        (Open(), {b"model": None}),
        (Numbers([1, 2]), [1, 2]),
        (Record(1), {b"a": 1}),
    ]


def not_there(pandas: Any) -> list[tuple[Any, Any]]:
    return [(pandas.NaT, None), (pandas.NA, None)]


def spans_of_pandas(pandas: Any) -> list[tuple[Any, Any]]:
    span = pandas.Timedelta
    return [
        (span(days=1, seconds=3661), b"P1DT1H1M1S"),
        (span("1.5s"), b"PT1.5S"),
        (span(1, "ns"), b"PT0.000000001S"),
        (span(-1, "ns"), b"-PT0.000000001S"),
        (span(0), b"PT0S"),
    ]


def times_of_pandas(pandas: Any) -> list[tuple[Any, Any]]:
    """By the rule of `datetime`, of which they are a subclass."""
    stamp = pandas.Timestamp
    return [
        (stamp("2024-02-29 01:02:03"), b"2024-02-29T01:02:03"),
        (stamp("2024-02-29", tz="UTC"), b"2024-02-29T00:00:00+00:00"),
        (stamp("2024-02-29 00:00:00.5"), b"2024-02-29T00:00:00.500000"),
        (stamp("2024-02-29 00:00:00.000000001"), b"2024-02-29T00:00:00.000000001"),
    ]


def series(pandas: Any) -> list[tuple[Any, Any]]:
    def of(*values: Any, **options: Any) -> Any:
        return pandas.Series(values, **options)

    day = pandas.Timestamp("2024-02-29")
    return [
        (of(1, 2), [1, 2]),
        (of(dtype=float), []),
        (of(1.5, None), [1.5, None]),
        (of(1.5, float("inf")), [1.5, Atom("infinity")]),
        (of(1, None, dtype="Int64"), [1, None]),
        (of(True, None, dtype="boolean"), [True, None]),
        (of("a", None, float("nan")), [b"a", None, None]),
        (of("a", None, dtype="string"), [b"a", None]),
        (of("a", "b", "a", None, dtype="category"), [b"a", b"b", b"a", None]),
        (of(day, None), [b"2024-02-29T00:00:00", None]),
        (of(day.tz_localize("UTC"), None), [b"2024-02-29T00:00:00+00:00", None]),
        (of(day - day, None), [b"PT0S", None]),
        (of({1}, [None], pandas.NA, dtype=object), [[1], [None], None]),
        (of(1, 2).index, [0, 1]),
        (pandas.Index(["a", None], dtype=object), [b"a", None]),
        (pandas.MultiIndex.from_tuples([(1, "a"), (2, "b")]), [(1, b"a"), (2, b"b")]),
        (of(1, None, dtype="Int64").array, [1, None]),
        (pandas.Categorical(["a", None]), [b"a", None]),
    ]


def frames_of_pandas(pandas: Any) -> list[tuple[Any, Any]]:
    frame = pandas.DataFrame
    mixed = frame(
        {
            "n": [1, 2],
            "x": [0.5, None],
            "s": ["a", None],
            "t": [pandas.Timestamp("2024-02-29"), pandas.NaT],
        },
        index=["one", "two"],
    )
    return [
        (
            mixed,
            [
                {b"n": 1, b"x": 0.5, b"s": b"a", b"t": b"2024-02-29T00:00:00"},
                {b"n": 2, b"x": None, b"s": None, b"t": None},
            ],
        ),
        (frame({0: [1], 1: [2]}), [{0: 1, 1: 2}]),
        (frame([[1]], columns=pandas.MultiIndex.from_tuples([("a", 1)])), [{(b"a", 1): 1}]),
        (frame(), []),
        (frame({"a": []}), []),
        (frame(index=[1, 2]), [{}, {}]),
    ]


def times_of_numpy(numpy: Any) -> list[tuple[Any, Any]]:
    time = numpy.datetime64
    moment = b"2024-02-29T01:02:03"
    finer = [(u, time("2024-02-29T01:02:03", u), moment) for u in ("s", "ms", "us", "ns")]
    # The 64 bits of the finest reach only some seconds around 1970.
    zero = [
        (u, time(0, u), b"1970-01-01T00:00:00")
        for u in ("h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
    ]
    return [
        *((value, text) for _unit, value, text in finer + zero),
        (time("2024"), b"2024-01-01"),
        (time("2024-02"), b"2024-02-01"),
        (time("2024-02-29", "W"), b"2024-02-29"),
        (time("2024-02-29"), b"2024-02-29"),
        (time("2024-02-29T01"), b"2024-02-29T01:00:00"),
        (time("2024-02-29T01:02"), b"2024-02-29T01:02:00"),
        (time("2024-02-29T01:02:03.5"), moment + b".500000"),
        (time("2024-02-29T01:02:03.000001", "ns"), moment + b".000001"),
        (time("2024-02-29T01:02:03.000000120"), moment + b".000000120"),
        (time(-1, "ps"), b"1969-12-31T23:59:59.999999999999"),
        (time(1, "as"), b"1970-01-01T00:00:00.000000000000000001"),
        (time(3, "25s"), b"1970-01-01T00:01:15"),
        (time("20000-01-01"), b"20000-01-01"),
        (time("NaT"), None),
        (time("NaT", "ns"), None),
        (time("NaT", "D"), None),
    ]


def spans_of_numpy(numpy: Any) -> list[tuple[Any, Any]]:
    span = numpy.timedelta64
    return [
        (span(1, "W"), b"P7D"),
        (span(-1, "D"), b"-P1D"),
        (span(25, "h"), b"P1DT1H"),
        (span(90, "m"), b"PT1H30M"),
        (span(1, "s"), b"PT1S"),
        (span(1500, "ms"), b"PT1.5S"),
        (span(1, "us"), b"PT0.000001S"),
        (span(1, "ns"), b"PT0.000000001S"),
        (span(1, "ps"), b"PT0.000000000001S"),
        (span(1, "fs"), b"PT0.000000000000001S"),
        (span(-1, "as"), b"-PT0.000000000000000001S"),
        (span(3, "15m"), b"PT45M"),
        (span(2, "Y"), b"P2Y"),
        (span(-14, "M"), b"-P14M"),
        (span(0, "ns"), b"PT0S"),
        (span((1 << 63) - 1, "D"), b"P9223372036854775807D"),
        # Of no unit it is a number.
        (span(5), 5),
        (span("NaT"), None),
        (span("NaT", "ns"), None),
    ]


def scalars_of_numpy(numpy: Any) -> list[tuple[Any, Any]]:
    np = numpy
    record = np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")])[0]
    times = np.array(
        [(1, ("2024-02-29", 3))], [("a", "i4"), ("b", [("t", "M8[ns]"), ("d", "m8[s]")])]
    )
    return [
        (np.bool_(True), True),
        (np.uint8(255), 255),
        (np.int64(-(1 << 63)), -(1 << 63)),
        (np.uint64((1 << 64) - 1), (1 << 64) - 1),
        (np.float16(0.5), 0.5),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.float32("nan"), Atom("nan")),
        (np.float64("-inf"), Atom("neg_infinity")),
        (np.str_("é"), "é".encode()),
        (np.bytes_(b"\xff"), b"\xff"),
        (np.void(b"ab"), b"ab"),
        (record, (1, 2.5)),
        (times[0], (1, (b"2024-02-29T00:00:00", b"PT3S"))),
    ]


def arrays_of_numpy(numpy: Any) -> list[tuple[Any, Any]]:
    np = numpy
    days = np.array(["2024-02-29", "NaT"], "M8[ns]")
    table = np.array([(1, "2024-02-29")], [("a", "i4"), ("t", "M8[ns]")])
    blocks = np.array([(["2024-02-29", "NaT"],)], [("t", "M8[ns]", (2,))])
    text = b"2024-02-29T00:00:00"
    return [
        (np.arange(6, dtype=np.int32).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
        (np.array([1.5, np.nan]), [1.5, Atom("nan")]),
        (np.array(["a", "b"]), [b"a", b"b"]),
        (np.array(5), 5),
        (np.zeros((2, 0)), [[], []]),
        (np.array([True, False]), [True, False]),
        (np.array([{1}, None], dtype=object), [[1], None]),
        (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]), [(1, 2.5)]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.array([1, 2, 3])[::-1], [3, 2, 1]),
        (days, [text, None]),
        (days.astype("M8[D]"), [b"2024-02-29", None]),
        (days.reshape(2, 1), [[text], [None]]),
        (days[0:1].reshape(()), text),
        (days[:0], []),
        (days - days[0], [b"PT0S", None]),
        (np.array([1, 2], "m8[M]"), [b"P1M", b"P2M"]),
        (np.ma.array(days[:1].repeat(2), mask=[False, True]), [text, None]),
        (np.ma.array([(1, "2024-02-29")], table.dtype, mask=[(True, False)]), [(None, text)]),
        (table, [(1, text)]),
        (table.view(np.recarray), [(1, text)]),
        (blocks, [([text, None],)]),
    ]


def scalars_of_arrow(pyarrow: Any) -> list[tuple[Any, Any]]:
    scalar = pyarrow.scalar
    return [
        (scalar(1), 1),
        (scalar(None), None),
        (scalar("a"), b"a"),
        (scalar(b"\xff"), b"\xff"),
        (scalar([1, None]), [1, None]),
        (scalar({"a": 1}), {b"a": 1}),
        (scalar(decimal.Decimal("1.10")), b"1.10"),
        (scalar(datetime.timedelta(seconds=1)), b"PT1S"),
        (scalar(datetime.datetime(2024, 2, 29, tzinfo=UTC)), b"2024-02-29T00:00:00+00:00"),
    ]


def arrays_of_arrow(pyarrow: Any) -> list[tuple[Any, Any]]:
    return [
        (pyarrow.array([1, None]), [1, None]),
        (pyarrow.array(["a", "a"]).dictionary_encode(), [b"a", b"a"]),
        (pyarrow.chunked_array([[1], [2, None]]), [1, 2, None]),
    ]


def tables_of_arrow(pyarrow: Any) -> list[tuple[Any, Any]]:
    data = {"a": [1, None], "d": [datetime.date(2024, 2, 29), None], "l": [[1], None]}
    rows = [{b"a": 1, b"d": b"2024-02-29", b"l": [1]}, {b"a": None, b"d": None, b"l": None}]
    return [
        (pyarrow.table(data), rows),
        (pyarrow.RecordBatch.from_pydict(data), rows),
        (pyarrow.table({"a": []}), []),
        (pyarrow.table({}), []),
    ]


def series_of_polars(polars: Any) -> list[tuple[Any, Any]]:
    return [
        (polars.Series([1, None]), [1, None]),
        (polars.Series("name", ["a"]), [b"a"]),
        (polars.Series([float("nan"), None]), [Atom("nan"), None]),
        (polars.Series([datetime.timedelta(seconds=1)]), [b"PT1S"]),
    ]


def frames_of_polars(polars: Any) -> list[tuple[Any, Any]]:
    frame = polars.DataFrame(
        {"a": [1, None], "t": [datetime.datetime(2024, 2, 29)] * 2, "s": [{"x": 1}, {"x": None}]}
    )
    moment = b"2024-02-29T00:00:00"
    return [
        (
            frame,
            [
                {b"a": 1, b"t": moment, b"s": {b"x": 1}},
                {b"a": None, b"t": moment, b"s": {b"x": None}},
            ],
        ),
        (polars.DataFrame(), []),
        (polars.DataFrame({"a": []}), []),
    ]


Cases = Callable[[Any], list[tuple[Any, Any]]]

# For each rule, by the words of its first column: the library, and values with what they become.
CASES: dict[str, tuple[str, Cases]] = {
    "attrs instance": ("attrs", attrs_cases),
    "pydantic model": ("pydantic", pydantic_cases),
    "pandas `NaT`, `NA`": ("pandas", not_there),
    "pandas `Timedelta`": ("pandas", spans_of_pandas),
    "NumPy `datetime64`": ("numpy", times_of_numpy),
    "NumPy `timedelta64`": ("numpy", spans_of_numpy),
    "NumPy scalar": ("numpy", scalars_of_numpy),
    "NumPy array": ("numpy", arrays_of_numpy),
    "pandas `Series`, `Index`, array": ("pandas", series),
    "pandas `DataFrame`": ("pandas", frames_of_pandas),
    "Arrow scalar": ("pyarrow", scalars_of_arrow),
    "Arrow `Array`, `ChunkedArray`": ("pyarrow", arrays_of_arrow),
    "Arrow `Table`, `RecordBatch`": ("pyarrow", tables_of_arrow),
    "polars `Series`": ("polars", series_of_polars),
    "polars `DataFrame`": ("polars", frames_of_polars),
    "`datetime`, `date`, `time`": ("pandas", times_of_pandas),
}


# From NumPy 2.5 on, which has values of no unit all the same.
@pytest.mark.filterwarnings("ignore:The 'generic' unit:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_each_rule_by_its_cases(name: str) -> None:
    library, cases = CASES[name]
    module = pytest.importorskip(library)
    rule = next(rule for rule in RULES if rule.python == name)
    for value, expected in cases(module):
        assert same(sent(value), expected), value
        assert same(sent([value, {"k": value}]), [expected, {b"k": expected}]), value
        assert rule.applies(type(value)) or name == "pydantic model"


def test_what_was_a_number_of_a_unit_is_text_in_json() -> None:
    numpy = pytest.importorskip("numpy")
    rows = [numpy.array(["2024-02-29", "NaT"], "M8[ns]"), {"d": numpy.timedelta64(1, "m")}]
    assert encode_json(rows) == b'[["2024-02-29T00:00:00",null],{"d":"PT1M"}]'


def test_rows_in_json() -> None:
    pandas = pytest.importorskip("pandas")
    assert encode_json(pandas.DataFrame({"a": [1.5, None]})) == b'[{"a":1.5},{"a":null}]'


def test_complex_numbers_are_refused() -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.complex128(1j), numpy.array([1j])):
        with pytest.raises(TypeError, match="complex"):
            sent(value)


@pytest.mark.parametrize("library", ["pandas", "pyarrow"])
def test_two_columns_of_one_name_are_an_error(library: str) -> None:
    module = pytest.importorskip(library)
    if library == "pandas":
        frame = module.DataFrame([[1, 2, 3]], columns=["b", "a", "a"])
    else:
        frame = module.Table.from_arrays([module.array([n]) for n in (1, 2, 3)], ["b", "a", "a"])
    with pytest.raises(ValueError, match="2 columns are named 'a'"):
        sent(frame)


def test_a_library_whose_import_has_not_ended_has_no_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "half", SimpleNamespace(here=3))
    assert is_from("half", "here")(bool)
    assert not is_from("half", "gone", "here.deeper")(int)
    assert not is_from("no_such_library", "here")(int)


def test_no_library_is_imported() -> None:
    program = (
        "import sys, erlang_port.etf.encoder as e\n"
        "try: e.Encoder().encode(object())\n"
        "except TypeError: pass\n"
        "e.Encoder().encode([{1}, None])\n"
        "print(sorted({'numpy', 'pandas', 'pydantic', 'attr', 'attrs', 'pyarrow', 'polars',"
        " 'threading', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": ":".join([str(Path(__file__).parents[3] / "python_side"), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
