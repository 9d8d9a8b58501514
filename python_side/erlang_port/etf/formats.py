"""The opaque formats: a value as MessagePack or JSON, for the options `format => msgpack | json`.

The conversions are those of `conversions`, as far as the format has a type for them:

              MessagePack         JSON
    None      nil                 null
    nan, inf  floats              null (JSON has no such numbers)
    bytes     bin                 string, if they are UTF-8, else ValueError
    Atom      str                 string
    tuple     array               array
    int       64 bits, else       any size
              OverflowError
    map key   anything            string; numbers, booleans, None as json.dumps writes them
    pid, reference, port, fun, bit string, improper list: TypeError
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType

from erlang_port.etf.conversions import OPAQUE, convert
from erlang_port.etf.terms import Atom, FrozenDict, FrozenList, MapKey
from erlang_port.etf.writer import MAX_DEPTH, too_deep
from erlang_port.hints import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from decimal import Decimal

__all__ = ("encode_json", "encode_msgpack")

_MAX_DEPTH: Final = 200
"""How deep a value may nest in these formats. Larger: Python's recursion limit may come first.
Smaller: deep documents are refused."""


def encode_msgpack(value: Any) -> bytes:
    """The value as MessagePack."""
    try:
        import msgpack
    except ImportError:
        raise ImportError(
            "format => msgpack needs the Python package 'msgpack', which is not installed"
        ) from None
    try:
        return bytes(msgpack.packb(value, default=_for_msgpack, strict_types=True))
    except RecursionError:
        raise too_deep() from None


_MSGPACK_TYPES: Final = frozenset((NoneType, bool, int, float, str, bytes, list, dict))


def _for_msgpack(value: Any) -> Any:
    """What MessagePack knows: the library asks once for each value that it does not know."""
    for _ in range(MAX_DEPTH):
        kind = type(value)
        if kind in _MSGPACK_TYPES:
            return value
        if kind is tuple or kind is FrozenList:
            return list(value)
        if kind is FrozenDict:
            return dict(value)
        if kind is Atom:
            return str(value)
        if kind is MapKey:
            value = value.value
        elif kind in OPAQUE:
            raise TypeError(f"MessagePack has no type for an erlang.{kind.__name__}")
        else:
            value = convert(value)
    raise too_deep()


def encode_json(value: Any) -> bytes:
    """The value as JSON text in UTF-8, without spaces."""
    try:
        plain = _for_json(value, 0)
        try:
            text = _dumps(plain)
        except ValueError:
            # Python writes no integers of more than 4,300 digits, or of what else was set
            # (sys.set_int_max_str_digits). Nothing else that is plain is refused.
            text = _dumps_long(plain)
    except RecursionError:
        raise too_deep() from None
    return text.encode("utf-8")


def _dumps(plain: Any) -> str:
    import json

    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


_LONG_BITS: Final = 2_048
"""Bits from which on an integer is written here: fewer than the 640 digits that Python can be set
to refuse. Larger: Python refuses some. Smaller: more is written slowly."""

_MARK: Final = "\ud800"
"""Stands for an integer until its digits are put there. No text has it that can be sent: it is half
of a character, which UTF-8 does not encode."""


def _dumps_long(plain: Any) -> str:
    """The JSON text of a plain value with integers that Python does not write."""
    numbers: list[str] = []
    pieces = _dumps(_marked(plain, numbers)).split(f'"{_MARK}"')
    if len(pieces) != len(numbers) + 1:
        # There are more marks, so it is the value's own text that has them: the error says so.
        _MARK.encode("utf-8")
    return "".join([pieces[0], *(n + piece for n, piece in zip(numbers, pieces[1:], strict=True))])


def _marked(plain: Any, numbers: list[str]) -> Any:
    """The value with marks for its long integers, whose digits are added to `numbers`."""
    kind = type(plain)
    if kind is int and plain.bit_length() > _LONG_BITS:
        numbers.append(_digits(plain))
        return _MARK
    if kind is list:
        return [_marked(v, numbers) for v in plain]
    if kind is dict:
        return {
            _digits(k) if type(k) is int and k.bit_length() > _LONG_BITS else k: _marked(v, numbers)
            for k, v in plain.items()
        }
    return plain


def _digits(number: int) -> str:
    """The decimal digits of an integer of any size.

    By halves, which decimal multiplies in nearly linear time; one long division by another takes
    quadratic time.
    """
    import decimal

    size = 1 << (max(number.bit_length() - 1, 0)).bit_length()
    exact = decimal.Context(
        prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.Inexact]
    )
    with decimal.localcontext(exact):
        text = str(_decimal(abs(number), size, decimal.Decimal))
    return f"-{text}" if number < 0 else text


def _decimal(number: int, bits: int, make: Callable[[int], Decimal]) -> Decimal:
    """The same for a number of at most `bits` bits, a power of two."""
    if bits <= _LONG_BITS:
        return make(number)
    half = bits >> 1
    high = number >> half
    low = number - (high << half)
    return _decimal(high, half, make) * make(2) ** half + _decimal(low, half, make)


_JSON_TYPES: Final = frozenset((str, int, bool, NoneType))
_JSON_KEYS: Final = frozenset((str, int, bool, NoneType, float))


def _for_json(value: Any, depth: int) -> Any:
    """An equal value of exact types that JSON has."""
    kind = type(value)
    if kind in _JSON_TYPES:
        return value
    if kind is float:
        return value if value - value == 0.0 else None
    if depth >= _MAX_DEPTH:
        raise too_deep(_MAX_DEPTH)
    depth += 1
    if kind is list or kind is tuple or kind is FrozenList:
        return [v if type(v) in _JSON_TYPES else _for_json(v, depth) for v in value]
    if kind is dict or kind is FrozenDict:
        return {
            k if type(k) is str else _json_key(k): v
            if type(v) in _JSON_TYPES
            else _for_json(v, depth)
            for k, v in value.items()
        }
    if kind is Atom:
        return str(value)
    if kind is bytes:
        return value.decode("utf-8")
    if kind is MapKey:
        return _for_json(value.value, depth)
    if kind in OPAQUE:
        raise TypeError(f"JSON has no type for an erlang.{kind.__name__}")
    return _for_json(convert(value), depth)


def _json_key(key: Any) -> Any:
    plain = _for_json(key, 0)
    if type(plain) not in _JSON_KEYS:
        raise TypeError(f"a key of a JSON object must be a string, not {type(key).__name__!r}")
    return plain
