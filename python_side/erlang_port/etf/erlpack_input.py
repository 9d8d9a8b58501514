"""Which values erlpack writes right, and an equal value made of those for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, groupby

from erlang_port.etf.conversions import OPAQUE, convert, found
from erlang_port.etf.terms import Atom, FrozenDict, FrozenList, received_atom
from erlang_port.etf.writer import safe_keys
from erlang_port.hints import Any, Final

__all__ = (
    "VERBATIM_TYPES",
    "NotForErlpackError",
    "items_to_erlpack",
    "kinds_of",
    "own_to_erlpack",
    "to_erlpack",
)


class NotForErlpackError(Exception):
    """The value holds something that only the exact writer can write."""


# erlpack's packer (erlpack/_packer.pyx) asks for None, True, False, then int, float, Atom, bytes,
# str, tuple, list, dict. For a value of exactly these types it writes what the exact writer means,
# but for None, floats that are not finite, and what it refuses with an error of its own: integers
# past 64 bits, atoms outside Latin-1, nesting past 256.
VERBATIM_TYPES: Final = frozenset((int, str, bytes, bool, Atom))
_FLOATS: Final = frozenset((float,))

# The node knows these, so they do not count as made here.
_NAN, _INFINITY, _NEG_INFINITY = map(received_atom, ("nan", "infinity", "neg_infinity"))

_PLAIN_DEPTH: Final = 100
"""How deep `to_erlpack` follows a value by recursion. Larger: more of Python's recursion limit of
1,000 is used up. Smaller: values that erlpack could write go the slow way."""

_LARGE: Final = 1_000
_LARGE_DEPTH: Final = 20
"""A container of `_LARGE` elements or more counts as `_LARGE_DEPTH` levels: a cycle through one is
then soon left to the exact writer, which finds it out. Larger: lists of lists of lists of a
thousand elements go the slow way. Smaller: finding such a cycle takes longer."""

_SHORT: Final = 16
"""Elements up to which each one's type is looked up. Larger or smaller: lists of about that many
elements take longer to check."""


def kinds_of(values: Iterable[Any]) -> set[type]:
    """The exact types among `values`."""
    runs = groupby(values, type)
    first = next(runs, None)
    if first is None:
        return set()
    # Most lists hold one type, and groupby runs through those in C, twice as fast as set(map()).
    if next(runs, None) is None:
        return {first[0]}
    return set(map(type, values))


def to_erlpack(value: Any, none: Atom, depth: int = 0) -> Any:
    """An equal term made only of what erlpack writes right, which nobody else can change.

    Lists and dictionaries are copied, and what was checked is the copy. `none` is what None
    becomes. Each value returned has been checked in full: exact types only, no None, only finite
    floats, keys that cannot be the same term twice. Raises NotForErlpackError where no such value
    exists, TypeError for a type without a rule, and what encoders and ``__erlang__`` raise.
    """
    kind = type(value)
    if kind in VERBATIM_TYPES:
        return value
    if kind is dict:
        return own_to_erlpack(value.copy(), none, depth)
    if kind is list or kind is FrozenList:
        return _plain_items([*value], none, depth)
    if kind is tuple:
        items = _plain_items(value, none, depth)
        return items if items is value else tuple(items)
    if value is None:
        return none
    if kind is float:
        return _finite(value)
    if kind in OPAQUE or depth >= _PLAIN_DEPTH:
        raise NotForErlpackError
    if kind is FrozenDict:
        return own_to_erlpack(value.copy(), none, depth)
    return to_erlpack(convert(value), none, depth + 1)


def _finite(value: float) -> Any:
    if value - value == 0.0:
        return value
    if value != value:
        return _NAN
    return _INFINITY if value > 0 else _NEG_INFINITY


def _plain_items(values: Any, none: Atom, depth: int) -> Any:
    if len(values) > _SHORT:
        kinds = kinds_of(values)
        if kinds <= VERBATIM_TYPES:
            return values
        if kinds == _FLOATS:
            # The sum of a list with a NaN or an infinity is one of them. (That of finite floats may
            # be infinite; they then go the longer way for nothing.)
            total = sum(values)
            if total - total == 0.0:
                return values
    elif VERBATIM_TYPES.issuperset(map(type, values)):
        return values
    return items_to_erlpack(values, none, depth)


def items_to_erlpack(values: Sequence[Any], none: Atom, depth: int = 0) -> list[Any]:
    """The elements as `to_erlpack` makes them, in a list."""
    if depth >= _PLAIN_DEPTH:
        raise NotForErlpackError
    depth += 1 if len(values) < _LARGE else _LARGE_DEPTH
    plain: list[Any] = []
    append = plain.append
    for value in values:
        kind = type(value)
        if kind in VERBATIM_TYPES:
            append(value)
        elif kind is float:
            append(value if value - value == 0.0 else _finite(value))
        elif value is None:
            append(none)
        else:
            step = found.get(kind)
            if step is not None:
                # It was converted before, and most are converted to text.
                value = step(value)
                if type(value) is str:
                    append(value)
                    continue
            append(to_erlpack(value, none, depth))
    return plain


def own_to_erlpack(copy: dict[Any, Any], none: Atom, depth: int = 0) -> dict[Any, Any]:
    """The same for a dictionary that is the caller's own; its entries are replaced."""
    if depth >= _PLAIN_DEPTH:
        raise NotForErlpackError
    inner = depth + (1 if len(copy) < _LARGE else _LARGE_DEPTH)
    has_other_keys = False
    for key, entry in copy.items():
        if type(key) is not str:
            has_other_keys = True
        kind = type(entry)
        if kind in VERBATIM_TYPES:
            continue
        if kind is float:
            if entry - entry != 0.0:
                copy[key] = _finite(entry)
        elif kind is list:
            entry = entry[:]
            if len(entry) > _SHORT or not VERBATIM_TYPES.issuperset(map(type, entry)):
                entry = _plain_items(entry, none, inner)
            copy[key] = entry
        elif kind is dict:
            copy[key] = own_to_erlpack(entry.copy(), none, inner)
        elif entry is None:
            copy[key] = none
        else:
            copy[key] = to_erlpack(entry, none, inner)
    if has_other_keys and not _plain_keys(copy):
        raise NotForErlpackError
    return copy


def _plain_keys(value: dict[Any, Any]) -> bool:
    """Whether erlpack writes the keys right as they are, and no two as the same term."""
    kinds = set(map(type, value))
    if kinds == {tuple}:
        kinds = set(map(type, chain.from_iterable(value)))
    return kinds <= VERBATIM_TYPES and safe_keys(kinds)
