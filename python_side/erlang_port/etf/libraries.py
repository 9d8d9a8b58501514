"""Values of libraries as plain ones of Python, for the table in `conversions`.

No library is imported here: there can be a value of one only where somebody has imported it, and
then it is in `sys.modules`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from erlang_port.etf.iso8601 import duration, shortened
from erlang_port.hints import Any, Final

__all__ = (
    "arrow_rows",
    "attrs_fields",
    "is_from",
    "is_pydantic",
    "numpy_array",
    "numpy_scalar",
    "numpy_span",
    "numpy_time",
    "pandas_cells",
    "pandas_rows",
    "polars_rows",
    "pydantic_fields",
)


def is_from(library: str, *names: str) -> Callable[[type], bool]:
    """Whether a type is one of those that a library has under these names.

    What a name stands for may also be the only value of its type, as pandas' NaT is.
    """

    def applies(kind: type) -> bool:
        module = sys.modules.get(library)
        return module is not None and any(issubclass(kind, _type(module, name)) for name in names)

    return applies


def _type(module: Any, name: str) -> type | tuple[()]:
    try:
        found = attrgetter(name)(module)
    except AttributeError:
        # Another version, or one whose import has not ended: no type is of that name.
        return ()
    return found if isinstance(found, type) else type(found)


def attrs_fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}


def is_pydantic(kind: type) -> bool:
    return isinstance(getattr(kind, "model_fields", None), dict)


def pydantic_fields(value: Any) -> Any:
    """The fields, and what else a model with ``extra="allow"`` was given; a root model's root."""
    kind = type(value)
    if getattr(kind, "__pydantic_root_model__", False):
        return value.root
    fields = {
        name: getattr(value, name)
        for name, field in kind.model_fields.items()
        if not getattr(field, "exclude", False)
    }
    return {**fields, **(getattr(value, "__pydantic_extra__", None) or {})}


def numpy_scalar(value: Any) -> Any:
    if value.dtype.names is not None:
        return _numpy_fields(value)
    item = value.item()
    # A longdouble's item is the longdouble itself.
    return float(item) if type(item) is type(value) else item


def numpy_array(value: Any) -> Any:
    """Nested lists. Those of times hold NumPy's scalars: tolist() makes numbers of nanoseconds."""
    if not _has_times(value.dtype):
        return value.tolist()
    if value.ndim:
        return list(value)
    # A row of a masked array is such an array, too.
    return value[()] if value.dtype.names is None else _numpy_fields(value)


def _numpy_fields(value: Any) -> tuple[Any, ...]:
    return tuple(value[name] for name in value.dtype.names)


def _has_times(dtype: Any) -> bool:
    if dtype.base.kind in "mM":
        return True
    return any(_has_times(dtype.base[name]) for name in dtype.base.names or ())


#: What shows the whole time: text of a year is no date, text of an hour no time.
_SHOWN: Final = {"Y": "D", "M": "D", "W": "D", "h": "s", "m": "s"}

#: Seconds in a unit, or units in a second.
_LONG: Final = {"W": 604_800, "D": 86_400, "h": 3_600, "m": 60, "s": 1}
_SHORT: Final = {"ms": 3, "us": 6, "ns": 9, "ps": 12, "fs": 15, "as": 18}


def numpy_time(value: Any) -> str | None:
    numpy = sys.modules["numpy"]
    if numpy.isnat(value):
        return None
    unit, _ = numpy.datetime_data(value.dtype)
    return shortened(str(numpy.datetime_as_string(value, unit=_SHOWN.get(unit, unit))))


def numpy_span(value: Any) -> str | int | None:
    numpy = sys.modules["numpy"]
    if numpy.isnat(value):
        return None
    unit, step = numpy.datetime_data(value.dtype)
    count: int = int(value.astype("int64")) * step
    if unit in _LONG:
        return duration(count * _LONG[unit])
    if unit in _SHORT:
        return duration(count, 10 ** _SHORT[unit])
    if unit == "generic":
        return count
    # Years and months are of no fixed length.
    return f"{'-' if count < 0 else ''}P{abs(count)}{unit}"


def pandas_cells(values: Any) -> list[Any]:
    """The values of a series, an index or an array; None for each that pandas holds for missing."""
    cells = values.tolist()
    if getattr(values, "nlevels", 1) > 1:
        # An index of tuples, none of which is missing.
        return cells  # type: ignore[no-any-return]
    missing = values.isna().tolist()
    return [None if gone else cell for cell, gone in zip(cells, missing, strict=True)]


def pandas_rows(frame: Any) -> list[dict[Any, Any]]:
    columns = (pandas_cells(frame.iloc[:, at]) for at in range(len(frame.columns)))
    return _rows(frame.columns.tolist(), columns, len(frame))


def arrow_rows(table: Any) -> list[dict[Any, Any]]:
    columns = (column.to_pylist() for column in table.columns)
    return _rows(table.schema.names, columns, table.num_rows)


def polars_rows(frame: Any) -> list[dict[Any, Any]]:
    columns = (column.to_list() for column in frame.get_columns())
    return _rows(frame.columns, columns, frame.height)


def _rows(names: Sequence[Any], columns: Iterable[list[Any]], count: int) -> list[dict[Any, Any]]:
    name, times = next(iter(Counter(names).most_common(1)), (None, 0))
    if times > 1:
        raise ValueError(
            f"{times} columns are named {name!r}: a row is a map of its columns; rename them"
        )
    if not names:
        return [{} for _ in range(count)]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
