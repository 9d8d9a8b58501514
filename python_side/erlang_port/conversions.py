"""What each type of Python means in Erlang.

One table, RULES, holds every conversion beyond the types that are terms already; docs/types.md and
the tests are checked against it. A rule turns a value into one that is a step closer to a term; the
result is converted again until nothing is left to do.

In order of precedence: an encoder registered for the type or the nearest of its bases, a method
``__erlang__()`` of the type, the types that are terms themselves, the rules from top to bottom.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from itertools import chain, groupby
from os import fsencode
from pathlib import PurePath
from types import NoneType
from typing import Any, Final, NamedTuple
from uuid import UUID

from erlang.terms import (
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
    received_atom,
)
from erlang_port.etf_writer import safe_keys

__all__ = ("RULES", "NeedsExactError", "Rule", "convert", "plain", "register_encoder")

Step = Callable[[Any], Any]


class Rule(NamedTuple):
    """One line of the table in docs/types.md."""

    python: str
    erlang: str
    applies: Callable[[type], bool]
    step: Step


def _is_a(*types: type) -> Callable[[type], bool]:
    return lambda kind: issubclass(kind, types)


def _is_numpy(name: str) -> Callable[[type], bool]:
    """Whether a type is NumPy's `name`; a value of it can exist only once NumPy is imported."""

    def applies(kind: type) -> bool:
        base = getattr(sys.modules.get("numpy"), name, None)
        return base is not None and issubclass(kind, base)

    return applies


def _numpy_scalar(value: Any) -> Any:
    item = value.item()
    # A longdouble's item is the longdouble itself.
    return float(item) if type(item) is type(value) else item


def _dataclass(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


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
    Rule(
        "dataclass instance",
        "map, field names are binaries",
        lambda kind: hasattr(kind, "__dataclass_fields__"),
        _dataclass,
    ),
    Rule(
        "`datetime`, `date`, `time`",
        "ISO 8601 binary",
        _is_a(datetime, date, time),
        lambda v: v.isoformat(),
    ),
    Rule("`decimal.Decimal`", "binary of its digits", _is_a(Decimal), str),
    Rule("`uuid.UUID`", "binary of 36 characters", _is_a(UUID), str),
    Rule("`pathlib` path", "binary of the path's bytes", _is_a(PurePath), fsencode),
    Rule("NumPy scalar", "what its `item()` is", _is_numpy("generic"), _numpy_scalar),
    Rule("NumPy array", "nested lists", _is_numpy("ndarray"), lambda v: v.tolist()),
)

OPAQUE: Final = frozenset((Pid, Reference, Port, Fun, Bitstring, ImproperList, MapKey))
"""Types that are terms themselves, and that erlpack does not know."""

_TERMS: Final = OPAQUE | frozenset(
    (NoneType, bool, int, float, str, bytes, Atom, list, tuple, dict, FrozenList, FrozenDict)
)

_registered: dict[type, Step] = {}
# What has been found for a type; forgotten as a whole when it is full or a type is registered.
_found: dict[type, Step] = {}
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
    _found.clear()


def _call_method(value: Any) -> Any:
    return type(value).__erlang__(value)


def _find(kind: type) -> Step:
    for base in kind.__mro__:
        if base in _registered:
            return _registered[base]
    if hasattr(kind, "__erlang__"):
        return _call_method
    for rule in RULES:
        if rule.applies(kind):
            return rule.step
    raise TypeError(
        f"cannot send a value of type '{kind.__module__}.{kind.__qualname__}' to Erlang: give the "
        "type an __erlang__() method, or call erlang.register_encoder(type, function)"
    )


def convert(value: Any) -> Any:
    """One step from `value` towards a term, by its type's rule; TypeError if there is none."""
    kind = type(value)
    step = _found.get(kind)
    if step is None:
        step = _find(kind)
        if len(_found) >= _MAX_FOUND:
            _found.clear()
        _found[kind] = step
    return step(value)


class NeedsExactError(Exception):
    """The value holds something that only the exact writer can write."""


# erlpack's packer (erlpack/_packer.pyx) asks for None, True, False, then int, float, Atom, bytes,
# str, tuple, list, dict. For a value of exactly these types it writes what the exact writer means,
# but for None, floats that are not finite, and what it refuses with an error of its own: integers
# past 64 bits, atoms outside Latin-1, nesting past 256.
AS_IS: Final = frozenset((int, str, bytes, bool, Atom))
_FLOATS: Final = frozenset((float,))
_STR_KEYS: Final = frozenset((str,))
_DICTS: Final = frozenset((dict,))
_TUPLES: Final = frozenset((tuple,))
_TEXT: Final = frozenset((str, bytes, Atom))
_PLAIN_SCALARS: Final = AS_IS | {float}
_SCALAR: Final = AS_IS | {float, NoneType}

# The node knows these, so they do not count as made here.
_NAN, _INFINITY, _NEG_INFINITY = map(received_atom, ("nan", "infinity", "neg_infinity"))

_PLAIN_DEPTH: Final = 100
"""How deep `plain` follows a value by recursion. Larger: more of Python's recursion limit of 1,000
is used up. Smaller: values that erlpack could write go the slow way."""

_LARGE: Final = 1_000
_LARGE_DEPTH: Final = 20
"""A container of so many elements counts as so many levels: a cycle through a large one is then
soon left to the exact writer, which knows it for what it is. Larger: lists of lists of lists of a
thousand elements go the slow way. Smaller: finding such a cycle takes longer."""


def kinds_of(values: list[Any] | tuple[Any, ...]) -> set[type]:
    """The exact types among `values`."""
    runs = groupby(values, type)
    first = next(runs, None)
    if first is None:
        return set()
    # Most lists hold one type, and groupby runs through those in C, twice as fast as set(map()).
    if next(runs, None) is None:
        return {first[0]}
    return set(map(type, values))


def plain(value: Any, none: Atom, depth: int = 0) -> Any:
    """An equal term made only of what erlpack writes right.

    Returns `value` itself where it is that already and holds no containers. `none` is what None
    becomes. Each value returned has been looked at in full: exact types only, no None, only finite
    floats, keys that cannot be the same term twice. Raises NeedsExactError where no such value
    exists, TypeError for a type without a rule, and what encoders and ``__erlang__`` raise.
    """
    kind = type(value)
    if kind in AS_IS:
        return value
    if kind is dict:
        return _plain_dict(value, none, depth)
    if kind is list or kind is FrozenList:
        return _plain_items(value, none, depth)
    if kind is tuple:
        items = _plain_items(value, none, depth)
        return items if items is value else tuple(items)
    if value is None:
        return none
    if kind is float:
        return _finite(value)
    if kind in OPAQUE or depth >= _PLAIN_DEPTH:
        raise NeedsExactError
    if kind is FrozenDict:
        return _plain_dict(value, none, depth)
    return plain(convert(value), none, depth + 1)


def _finite(value: float) -> Any:
    if value - value == 0.0:
        return value
    if value != value:
        return _NAN
    return _INFINITY if value > 0 else _NEG_INFINITY


def _plain_items(values: Any, none: Atom, depth: int) -> Any:
    kinds = kinds_of(values)
    if kinds <= AS_IS:
        return values
    if depth >= _PLAIN_DEPTH:
        raise NeedsExactError
    if kinds <= _SCALAR:
        if float in kinds:
            return _plain_floats(values, kinds, none)
        return [none if v is None else v for v in values]
    depth += 1 if len(values) < _LARGE else _LARGE_DEPTH
    return [plain(v, none, depth) for v in values]


def _plain_floats(values: Any, kinds: set[type], none: Atom) -> Any:
    """Scalars with floats among them."""
    if kinds == _FLOATS:
        # The sum of a list with a NaN or an infinity is one of them. (That of finite floats may be
        # infinite; they then go the longer way for nothing.)
        total = sum(values)
        if total - total == 0.0:
            return values
    return [v if type(v) in AS_IS else none if v is None else _finite(v) for v in values]


def plain_rows_size(values: list[Any], limit: int) -> int:
    """A bound for the encoded bytes of a list of rows that erlpack writes right, else -1.

    The same test that `plain` makes of each row, made of all at once in a fraction of the time.
    Rows are dicts with text for keys, or tuples; only such of scalars pass it. A bound past `limit`
    may be of untested ones.
    """
    kinds = kinds_of(values)
    if kinds != _DICTS and kinds != _TUPLES:
        return -1
    lengths = list(map(len, values))
    # Before anything is listed: many rows may be one large dict over and over. Anything but text,
    # and every header, takes at most 16 bytes.
    headers = 16 * (2 * sum(lengths) + len(values) + 1)
    if headers > limit:
        return headers
    characters = 0
    rows: list[Any] = values
    if kinds == _DICTS:
        keys = list(chain.from_iterable(values))
        if kinds_of(keys) != _STR_KEYS:
            return -1
        characters = sum(map(len, keys))
        rows = list(map(dict.values, values))
    columns: list[Any]
    if min(lengths) == max(lengths):
        # A column mostly holds one type, and is then looked at in C.
        try:
            columns = list(zip(*rows, strict=True))
        except ValueError:
            return -1  # Another thread has changed a row.
    else:
        columns = [list(chain.from_iterable(rows))]
    for column in columns:
        found = _characters(column)
        if found < 0:
            return -1
        characters += found
    # A character takes at most four bytes.
    return 4 * characters + headers


def _characters(values: list[Any] | tuple[Any, ...]) -> int:
    """The characters of the texts among scalars; -1 where erlpack does not write all right."""
    kinds = kinds_of(values)
    if not kinds <= _PLAIN_SCALARS:
        return -1
    if float in kinds:
        # As in _plain_floats.
        floats = values if kinds == _FLOATS else [v for v in values if type(v) is float]
        total = sum(floats)
        if total - total != 0.0:
            return -1
    if kinds.isdisjoint(_TEXT):
        return 0
    return sum(map(len, values if kinds <= _TEXT else [v for v in values if type(v) in _TEXT]))


def _plain_dict(value: dict[Any, Any], none: Atom, depth: int) -> dict[Any, Any]:
    if depth >= _PLAIN_DEPTH:
        raise NeedsExactError
    key_kinds = set(map(type, value))
    if key_kinds != _STR_KEYS and not _plain_keys(value, key_kinds):
        raise NeedsExactError
    if set(map(type, value.values())) <= AS_IS:
        return value
    # Most entries stay as they are, so a copy with some replaced is made faster than a new dict.
    copy = value.copy()
    inner = depth + (1 if len(copy) < _LARGE else _LARGE_DEPTH)
    for key, entry in copy.items():
        kind = type(entry)
        if kind in AS_IS:
            continue
        if entry is None:
            copy[key] = none
        elif kind is not float:
            copy[key] = plain(entry, none, inner)
        elif entry - entry != 0.0:
            copy[key] = _finite(entry)
    return copy


def _plain_keys(value: dict[Any, Any], kinds: set[type]) -> bool:
    """Whether erlpack writes the keys right as they are, and no two as the same term."""
    if kinds == {tuple}:
        kinds = set(map(type, chain.from_iterable(value)))
    return kinds <= AS_IS and safe_keys(kinds)
