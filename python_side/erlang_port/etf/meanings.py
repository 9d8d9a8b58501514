"""What structs of Elixir's are in Python, by the name of their module."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

from erlang_port.hints import Any, Final

__all__ = ("MEANINGS",)

Struct = dict[Any, Any]


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
