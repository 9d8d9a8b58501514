"""What the benchmarks stream and call.

The loops are what is measured: `yield from` would leave out the resuming of a frame.
"""

# ruff: noqa: UP028

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

WORDS = [f"token{i:02d}" for i in range(100)]


def ints(count: int) -> Iterator[int]:
    """Small integers, each a new object."""
    for i in range(100_000, 100_000 + count):
        yield i


def strings(count: int) -> Iterator[str]:
    """Strings of seven bytes."""
    for word in islice(cycle(WORDS), count):
        yield word


def rows(count: int) -> Iterator[tuple[int, str, float, bool]]:
    """Rows as a database driver returns them."""
    for i, word in enumerate(islice(cycle(WORDS), count), 100_000):
        yield (i, word, 1.5, True)


def dicts(count: int) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries."""
    for i, word in enumerate(islice(cycle(WORDS), count), 100_000):
        yield {"id": i, "name": word, "score": 1.5, "valid": True}


def blobs(size: int, count: int) -> Iterator[bytes]:
    """One binary, again and again."""
    blob = b"x" * size
    for _ in range(count):
        yield blob


def echo(value: Any) -> Any:
    """The smallest call with an argument and a result."""
    return value
