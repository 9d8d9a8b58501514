"""Reads many integers or floats after each other in one stroke.

A run goes on for as long as the byte at each step is the tag: the first is one, and each element
has the same size. The part that is examined doubles, so that what was examined beyond a run's
end is never more than the run itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import chain

from erlang_port.etf.scalars import Buffer, DecodeError
from erlang_port.hints import Any, Final

__all__ = ("RUNS", "SHORT_RUN", "small_integers")

SHORT_RUN: Final = 8
"""Elements up to which a run is not looked for. Larger: short lists of integers are read one by
one. Smaller: looking costs more than it saves."""

_BLOCK: Final = 256
"""Elements unpacked at once. Larger: more memory. Smaller: more tuples made."""


def _run_length(data: Buffer, pos: int, left: int, step: int) -> int:
    tag = bytes(data[pos : pos + 1])
    length, window = 0, 32
    while length < left:
        window = min(window, left - length)
        start = pos + length * step
        tags = bytes(data[start : start + window * step : step])
        same = len(tags) - len(tags.lstrip(tag))
        length += same
        if same < window:
            break
        window *= 2
    return length


def small_integers(data: Buffer, pos: int, left: int, items: list[Any]) -> int:
    length = _run_length(data, pos, left, 2)
    end = pos + 2 * length
    if end > len(data):
        raise DecodeError("truncated", len(data) - 1)
    items.extend(data[pos + 1 : end : 2])
    return end


def _integers(data: Buffer, pos: int, left: int, items: list[Any]) -> int:
    return _unpack_run(data, pos, _run_length(data, pos, left, 5), items, "xi", 5)


def _floats(data: Buffer, pos: int, left: int, items: list[Any]) -> int:
    before = len(items)
    end = _unpack_run(data, pos, _run_length(data, pos, left, 9), items, "xd", 9)
    for at, value in enumerate(items[before:]):
        if value - value != 0.0:
            raise DecodeError("a float that is not finite", pos + 9 * at)
    return end


def _unpack_run(
    data: Buffer, pos: int, length: int, items: list[Any], layout: str, size: int
) -> int:
    """Appends `length` elements of `layout`; blocks of them make fewer tuples than single ones."""
    end = pos + length * size
    if end > len(data):
        raise DecodeError("truncated", pos)
    blocks = length // _BLOCK
    middle = pos + blocks * _BLOCK * size
    if blocks:
        block = struct.Struct(">" + layout * _BLOCK)
        items.extend(chain.from_iterable(block.iter_unpack(data[pos:middle])))
    items.extend(struct.unpack_from(">" + layout * (length - blocks * _BLOCK), data, middle))
    return end


RUNS: Final[dict[int, Callable[[Buffer, int, int, list[Any]], int]]] = {
    98: _integers,
    70: _floats,
}
