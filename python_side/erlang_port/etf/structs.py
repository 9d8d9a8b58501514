"""What structs of Elixir's are in Python.

A struct is a map with the key `__struct__`, an atom, whose value is the name of a module. Those of
MEANINGS become values of Python's own; any other is the map that it is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

from erlang_port.etf.terms import Atom

__all__ = ("MEANINGS", "STRUCT", "STRUCT_AS_STR", "of_struct")

Struct = dict[Any, Any]

STRUCT: Final = "__struct__"


class _StructKey(str):
    """The atom `__struct__` where atoms arrive as `str`; no binary becomes one."""

    __slots__ = ()


STRUCT_AS_STR: Final = _StructKey(STRUCT)


def of_struct(value: Struct) -> Any:
    """A map that has a key `__struct__` as what it means."""
    key = next(key for key in value if key == STRUCT)
    if type(key) is not Atom and key is not STRUCT_AS_STR:
        return value  # A binary is data, whatever it says.
    meaning = MEANINGS.get(value[key]) if isinstance(value[key], str) else None
    if meaning is not None:
        try:
            return meaning(value)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            pass  # Such as a year that Python does not have: it is a map.
    if key is STRUCT_AS_STR:
        return {STRUCT if name is key else name: field for name, field in value.items()}
    return value


def _check_calendar(value: Struct) -> None:
    if value["calendar"] != "Elixir.Calendar.ISO":
        raise ValueError("another calendar")


def _date(value: Struct) -> date:
    _check_calendar(value)
    return date(value["year"], value["month"], value["day"])


def _time_fields(value: Struct) -> tuple[int, int, int, int]:
    _check_calendar(value)
    return value["hour"], value["minute"], value["second"], value["microsecond"][0]


def _time(value: Struct) -> time:
    return time(*_time_fields(value))


def _naive(value: Struct) -> datetime:
    return datetime(value["year"], value["month"], value["day"], *_time_fields(value))


def _aware(value: Struct) -> datetime:
    offset = value["utc_offset"] + value["std_offset"]
    name = value["zone_abbr"]
    if isinstance(name, bytes):
        name = name.decode()
    zone = timezone(timedelta(seconds=offset), name) if offset or name != "UTC" else timezone.utc
    return _naive(value).replace(tzinfo=zone)


def _decimal(value: Struct) -> Decimal:
    sign, coefficient = int(value["sign"] < 0), value["coef"]
    if isinstance(coefficient, str):
        return Decimal(f"{'-' if sign else ''}{coefficient}")  # NaN, inf
    return Decimal((sign, tuple(map(int, str(coefficient))), value["exp"]))


def _range(value: Struct) -> range:
    step = value["step"]
    return range(value["first"], value["last"] + (1 if step > 0 else -1), step)


def _set(value: Struct) -> set[Any]:
    return set(value["map"])


MEANINGS: Final[dict[str, Callable[[Struct], Any]]] = {
    "Elixir.Date": _date,
    "Elixir.DateTime": _aware,
    "Elixir.Decimal": _decimal,
    "Elixir.MapSet": _set,
    "Elixir.NaiveDateTime": _naive,
    "Elixir.Range": _range,
    "Elixir.Time": _time,
}
