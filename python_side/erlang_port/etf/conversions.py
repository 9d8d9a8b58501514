"""What each type of Python means in Erlang.

One table, RULES, holds every conversion beyond the types that are terms already; docs/types.md and
the tests are checked against it. A rule turns a value into one that is a step closer to a term; the
result is converted again until nothing is left to do.

In order of precedence: an encoder registered for the type or the nearest of its bases, a method
``__erlang__()`` of the type, the types that are terms themselves, the rules from top to bottom.
"""

from __future__ import annotations

from collections import UserDict, UserList, UserString, deque
from collections.abc import (
    AsyncIterator,
    Callable,
    ItemsView,
    Iterator,
    KeysView,
    ValuesView,
)
from enum import Enum
from io import IOBase
from os import fsencode
from types import CoroutineType, MappingProxyType, ModuleType, NoneType

from erlang_port.etf.iso8601 import duration
from erlang_port.etf.libraries import (
    arrow_rows,
    attrs_fields,
    is_from,
    is_pydantic,
    numpy_array,
    numpy_scalar,
    numpy_span,
    numpy_time,
    pandas_cells,
    pandas_rows,
    polars_rows,
    pydantic_fields,
)
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
from erlang_port.hints import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import timedelta

__all__ = ("RULES", "Rule", "convert", "found", "register_encoder")

Step = Callable[[Any], Any]


class Rule(NamedTuple):
    """One line of the table in docs/types.md."""

    python: str
    erlang: str
    applies: Callable[[type], bool]
    step: Step


def _is_a(*types: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, types)


def _dataclass(value: Any) -> dict[str, Any]:
    from dataclasses import fields  # Which takes long to import.

    return {field.name: getattr(value, field.name) for field in fields(value)}


def _timedelta(value: timedelta) -> str:
    return duration(
        (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds, 1_000_000
    )


# The bases' own methods, so that what a subclass overrides changes nothing.
RULES: Final[tuple[Rule, ...]] = (
    Rule("`enum.Enum` member", "what its `value` is", _is_a(Enum), lambda v: v.value),
    Rule("`set`, `frozenset`", "list, in no particular order", _is_a(set, frozenset), list),
    Rule("`bytearray`", "binary", _is_a(bytearray), lambda v: memoryview(v).tobytes()),
    Rule("`memoryview`", "binary of its bytes", _is_a(memoryview), memoryview.tobytes),
    Rule("subclass of `int`", "integer", _is_a(int), int.__index__),
    Rule("subclass of `float`", "float", _is_a(float), float.__float__),
    Rule("subclass of `str`", "binary", _is_a(str), str.__str__),
    Rule("subclass of `bytes`", "binary", _is_a(bytes), lambda v: memoryview(v).tobytes()),
    Rule("subclass of `list`", "list", _is_a(list), list.copy),
    Rule(
        "subclass of `tuple`, such as a named tuple",
        "tuple",
        _is_a(tuple),
        lambda v: tuple(tuple.__iter__(v)),
    ),
    Rule("subclass of `dict`", "map", _is_a(dict), lambda v: dict(dict.items(v))),
    Rule("`collections.deque`", "list", _is_a(deque), lambda v: list(deque.__iter__(v))),
    Rule("`range`", "list", _is_a(range), list),
    Rule(
        "`keys()`, `values()`, `items()` of a dictionary",
        "list",
        _is_a(KeysView, ValuesView, ItemsView),
        list,
    ),
    Rule("`types.MappingProxyType`", "map", _is_a(MappingProxyType), dict),
    Rule(
        "`UserDict`, `UserList`, `UserString`",
        "what its `data` is",
        _is_a(UserDict, UserList, UserString),
        lambda v: v.data,
    ),
    Rule(
        "dataclass instance",
        "map, field names are binaries",
        lambda kind: hasattr(kind, "__dataclass_fields__"),
        _dataclass,
    ),
    Rule(
        "attrs instance",
        "map, field names are binaries",
        lambda kind: hasattr(kind, "__attrs_attrs__"),
        attrs_fields,
    ),
    Rule(
        "pydantic model",
        "map, field names are binaries; of a root model, its `root`",
        is_pydantic,
        pydantic_fields,
    ),
    Rule("pandas `NaT`, `NA`", "`none`", is_from("pandas", "NaT", "NA"), lambda v: None),
    Rule(
        "pandas `Timedelta`",
        "as `timedelta`, to the nanosecond",
        is_from("pandas", "Timedelta"),
        lambda v: v.to_timedelta64(),
    ),
    Rule(
        "`datetime`, `date`, `time`",
        "ISO 8601 binary",
        is_from("datetime", "datetime", "date", "time"),
        lambda v: v.isoformat(),
    ),
    Rule(
        "`timedelta`",
        "ISO 8601 binary: a duration such as `P1DT2H0.5S`",
        is_from("datetime", "timedelta"),
        _timedelta,
    ),
    Rule("`decimal.Decimal`", "binary of its digits", is_from("decimal", "Decimal"), str),
    Rule("`uuid.UUID`", "binary of 36 characters", is_from("uuid", "UUID"), str),
    Rule("`pathlib` path", "binary of the path's bytes", is_from("pathlib", "PurePath"), fsencode),
    Rule(
        "NumPy `datetime64`",
        "as `datetime`, or `date` if the unit is a day or more; `NaT`: `none`",
        is_from("numpy", "datetime64"),
        numpy_time,
    ),
    Rule(
        "NumPy `timedelta64`",
        "as `timedelta`; years and months as such, `P3M`; `NaT`: `none`",
        is_from("numpy", "timedelta64"),
        numpy_span,
    ),
    Rule("NumPy scalar", "what its `item()` is", is_from("numpy", "generic"), numpy_scalar),
    Rule("NumPy array", "nested lists", is_from("numpy", "ndarray"), numpy_array),
    Rule(
        "pandas `Series`, `Index`, array",
        "list, missing values are `none`",
        is_from("pandas", "Series", "Index", "api.extensions.ExtensionArray"),
        pandas_cells,
    ),
    Rule(
        "pandas `DataFrame`",
        "list of rows: maps of column to value, missing ones are `none`",
        is_from("pandas", "DataFrame"),
        pandas_rows,
    ),
    Rule(
        "Arrow scalar",
        "what its `as_py()` is",
        is_from("pyarrow", "Scalar"),
        lambda v: v.as_py(),
    ),
    Rule(
        "Arrow `Array`, `ChunkedArray`",
        "list",
        is_from("pyarrow", "Array", "ChunkedArray"),
        lambda v: v.to_pylist(),
    ),
    Rule(
        "Arrow `Table`, `RecordBatch`",
        "list of rows: maps of column to value",
        is_from("pyarrow", "Table", "RecordBatch"),
        arrow_rows,
    ),
    Rule("polars `Series`", "list", is_from("polars", "Series"), lambda v: v.to_list()),
    Rule(
        "polars `DataFrame`",
        "list of rows: maps of column to value",
        is_from("polars", "DataFrame"),
        polars_rows,
    ),
)

OPAQUE: Final = frozenset((Pid, Reference, Port, Fun, Bitstring, ImproperList, MapKey))
"""Types that are terms themselves, and that erlpack does not know."""

_TERMS: Final = OPAQUE | frozenset(
    (NoneType, bool, int, float, str, bytes, Atom, list, tuple, dict, FrozenList, FrozenDict)
)

_registered: dict[type, Step] = {}
#: What has been found for a type; forgotten as a whole when it is full or a type is registered.
found: dict[type, Step] = {}
_MAX_FOUND: Final = 4_096
"""Larger: classes that the program has dropped stay in memory. Smaller: a program that sends more
types than this looks their rules up again and again."""


def register_encoder(kind: type, function: Callable[[Any], Any]) -> None:
    """Sends values of `kind`, and of its subclasses, as what `function(value)` returns.

    The result is converted in its turn. A second call for the same type replaces the first. Types
    that are terms themselves (int, str, dict, ...) and `object` are a ValueError: subclasses of
    them are not.
    """
    if not isinstance(kind, type):
        raise TypeError(f"register_encoder needs a type, not {kind!r}")
    if not callable(function):
        raise TypeError(f"register_encoder needs a function, not {function!r}")
    if kind in _TERMS or kind is object:
        raise ValueError(f"{kind.__name__!r} always goes to Erlang as itself; register a subclass")
    _registered[kind] = function
    found.clear()


def _call_method(value: Any) -> Any:
    return type(value).__erlang__(value)


#: What to do with values that no encoder makes sense for.
_ADVICE: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((CoroutineType,), "await it first; a call awaits only the coroutine that is its result"),
    ((IOBase,), "an open file belongs to its process; send its path, or what read() returns"),
    (
        (Iterator, AsyncIterator),
        "only a stream's own generator is iterated; inside a value, make a list of it",
    ),
    ((ModuleType,), "a module stays in Python; send its name, and name it in py:call"),
)
_ANY_ADVICE: Final = (
    "give the type an __erlang__() method, or call erlang.register_encoder(type, function)"
)


def _find(kind: type) -> Step:
    for base in kind.__mro__:
        if base in _registered:
            return _registered[base]
    if hasattr(kind, "__erlang__"):
        return _call_method
    for rule in RULES:
        if rule.applies(kind):
            return rule.step
    advice = next((advice for types, advice in _ADVICE if issubclass(kind, types)), _ANY_ADVICE)
    raise TypeError(
        f"cannot send a value of type '{kind.__module__}.{kind.__qualname__}' to Erlang: {advice}"
    )


def convert(value: Any) -> Any:
    """One step from `value` towards a term, by its type's rule; TypeError if there is none."""
    kind = type(value)
    step = found.get(kind)
    if step is None:
        step = _find(kind)
        if len(found) >= _MAX_FOUND:
            found.clear()
        found[kind] = step
    return step(value)
