"""The opaque formats: a value as MessagePack or JSON, for the options `format => msgpack | json`.

The conversions are those of `conversions`, as far as the format has a place for them:

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

import json
from types import NoneType
from typing import Any, Final

from erlang_port.etf.conversions import OPAQUE, convert
from erlang_port.etf.terms import Atom, FrozenDict, FrozenList, MapKey
from erlang_port.etf.writer import MAX_DEPTH, too_deep

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
            raise TypeError(f"MessagePack has no place for an erlang.{kind.__name__}")
        else:
            value = convert(value)
    raise too_deep()


def encode_json(value: Any) -> bytes:
    """The value as JSON text in UTF-8, without spaces."""
    try:
        text = json.dumps(
            _for_json(value, 0), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
    except RecursionError:
        raise too_deep() from None
    return text.encode("utf-8")


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
        raise TypeError(f"JSON has no place for an erlang.{kind.__name__}")
    return _for_json(convert(value), depth)


def _json_key(key: Any) -> Any:
    plain = _for_json(key, 0)
    if type(plain) not in _JSON_KEYS:
        raise TypeError(f"a key of a JSON object must be a string, not {type(key).__name__!r}")
    return plain
