"""Structs of Elixir's; with Elixir itself: test/elixir/structs_test.exs."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest

from erlang_port.etf.decoder import decode
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.meanings import MEANINGS
from erlang_port.etf.structs import STRUCT
from erlang_port.etf.terms import Atom

ISO = {"calendar": Atom("Elixir.Calendar.ISO")}
DAY = {"year": 2026, "month": 11, "day": 25}
CLOCK = {"hour": 10, "minute": 11, "second": 12, "microsecond": (500_000, 1)}
ZONE = {"utc_offset": 3600, "std_offset": 0, "zone_abbr": "CET", "time_zone": "Europe/Berlin"}
UTC = {"utc_offset": 0, "std_offset": 0, "zone_abbr": "UTC", "time_zone": "Etc/UTC"}
CET = datetime.timezone(datetime.timedelta(hours=1), "CET")

CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("Date", {**ISO, **DAY}, datetime.date(2026, 11, 25)),
    ("Time", {**ISO, **CLOCK}, datetime.time(10, 11, 12, 500_000)),
    (
        "NaiveDateTime",
        {**ISO, **DAY, **CLOCK},
        datetime.datetime(2026, 11, 25, 10, 11, 12, 500_000),
    ),
    (
        "DateTime",
        {**ISO, **DAY, **CLOCK, **ZONE},
        datetime.datetime(2026, 11, 25, 10, 11, 12, 500_000, CET),
    ),
    (
        "DateTime",
        {**ISO, **DAY, **CLOCK, **UTC},
        datetime.datetime(2026, 11, 25, 10, 11, 12, 500_000, datetime.timezone.utc),
    ),
    ("Decimal", {"sign": -1, "coef": 10**40, "exp": -2}, decimal.Decimal("-1" + 38 * "0" + ".00")),
    ("Decimal", {"sign": -1, "coef": Atom("inf"), "exp": 0}, decimal.Decimal("-Infinity")),
    ("Range", {"first": 1, "last": 10, "step": 3}, range(1, 11, 3)),
    ("Range", {"first": 10, "last": 1, "step": -3}, range(10, 0, -3)),
    ("MapSet", {"map": {1: [], "a": []}, "version": 2}, {1, "a"}),
]


def encoded(module: str, fields: dict[str, Any]) -> bytes:
    atoms = {Atom(name): value for name, value in fields.items()}
    return Encoder().encode({Atom(STRUCT): Atom(f"Elixir.{module}"), **atoms})


@pytest.mark.parametrize(("module", "fields", "meaning"), CASES)
@pytest.mark.parametrize("binaries", ["str", "bytes"])
@pytest.mark.parametrize("atoms", ["atom", "str"])
def test_what_they_mean(
    module: str, fields: dict[str, Any], meaning: Any, binaries: str, atoms: str
) -> None:
    value = decode(encoded(module, fields), 0, binaries, atoms)
    if module == "MapSet" and binaries == "bytes":
        meaning = {1, b"a"}
    if isinstance(meaning, decimal.Decimal):
        assert value.as_tuple() == meaning.as_tuple()
    assert (type(value), value) == (type(meaning), meaning)


def test_each_is_tried() -> None:
    assert {f"Elixir.{module}" for module, _, _ in CASES} == set(MEANINGS)


@pytest.mark.parametrize(
    ("module", "fields"),
    [
        ("Date", {**ISO, **DAY, "year": -44}),
        ("Date", {**ISO, **DAY, "year": "x"}),
        ("Date", {**DAY, "calendar": Atom("Elixir.Other")}),
        ("Date", DAY),
        ("Time", {**ISO, **CLOCK, "microsecond": 5}),
        ("DateTime", {**ISO, **DAY, **CLOCK, **ZONE, "utc_offset": 10**6}),
        ("Decimal", {"sign": 1, "coef": -1, "exp": 0}),
        ("Decimal", {"sign": 1, "coef": "what", "exp": 0}),
        ("Range", {"first": 1, "last": 2, "step": 0}),
        ("MapSet", {"map": 5}),
        ("Mine", {"name": "box"}),
    ],
)
def test_what_python_does_not_have_is_a_map(module: str, fields: dict[str, Any]) -> None:
    term = encoded(module, fields)
    value = decode(term)
    assert value == {STRUCT: f"Elixir.{module}", **fields}
    assert {type(key) for key in value} == {Atom}
    assert Encoder().encode(value) == term
    assert {type(key) for key in decode(term, atoms="str")} == {str}


def test_text_is_data() -> None:
    for module in ("Elixir.Date", Atom("Elixir.Date")):
        value = {STRUCT: module, **ISO, **DAY}
        for atoms in ("atom", "str"):
            assert decode(Encoder().encode(value), atoms=atoms) == value


def test_they_can_be_in_keys() -> None:
    date = {Atom(STRUCT): Atom("Elixir.Date"), **{Atom(k): v for k, v in (ISO | DAY).items()}}
    members = {Atom(STRUCT): Atom("Elixir.MapSet"), Atom("map"): {1: []}}
    key = [date, members]
    # A list of two dictionaries cannot be a key in Python: the bytes are put together.
    inner = Encoder().encode({"key": key})
    start = inner.index(b"key") + 3
    term = b"\x83t\0\0\0\1" + inner[start:] + b"a\1"
    ((found, one),) = decode(term).items()
    assert one == 1
    assert list(found) == [datetime.date(2026, 11, 25), frozenset({1})]
