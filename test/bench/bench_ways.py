"""What the benchmark of the other ways in and out runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from bench_values import ints as ints

import erlang


def total(values: erlang.Channel) -> int:
    """How many there are, in a loop as a user writes it."""
    number = 0
    for _value in values:
        number += 1
    return number


async def total_async(values: erlang.Channel) -> int:
    """The same on the event loop."""
    number = 0
    async for _value in values:
        number += 1
    return number


def _library(number: int, callback: Callable[[int], Any]) -> None:
    for i in range(100_000, 100_000 + number):
        if callback(i):
            break


def called_back(number: int, maxsize: int = 8) -> Iterator[int]:
    """Values that a function gives to its callback."""
    return erlang.from_callback(_library, number, maxsize=maxsize)


def called_back_async(number: int) -> AsyncIterator[int]:
    """The same on the event loop."""
    return erlang.afrom_callback(_library, number)
