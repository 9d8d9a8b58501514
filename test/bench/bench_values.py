"""What the benchmarks stream and call.

The loops are what is measured: `yield from` would leave out the resuming of a frame.
Clocks are CLOCK_MONOTONIC in nanoseconds, which the node reads as `os:perf_counter/1`.
"""

# ruff: noqa: UP028

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from decimal import Decimal
from itertools import count, cycle, islice
from queue import SimpleQueue
from typing import Any

WORDS = [f"token{i:02d}" for i in range(100)]

#: The name of each endless generator that was closed, and when its `finally` ran.
_closed: SimpleQueue[tuple[int, int]] = SimpleQueue()


# Values.


def ints(number: int) -> Iterator[int]:
    """Small integers, each a new object."""
    for i in range(100_000, 100_000 + number):
        yield i


def strings(number: int) -> Iterator[str]:
    """Strings of seven bytes."""
    for word in islice(cycle(WORDS), number):
        yield word


def rows(number: int) -> Iterator[tuple[int, str, float, bool]]:
    """Rows as a database driver returns them."""
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield (i, word, 1.5, True)


def dicts(number: int) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries."""
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield {"id": i, "name": word, "score": 1.5, "valid": True}


def rows_none(number: int) -> Iterator[tuple[int, str | None, float, bool]]:
    """Rows, in every other of which a field is NULL."""
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield (i, word if i % 2 else None, 1.5, True)


def dicts_none(number: int) -> Iterator[dict[str, Any]]:
    """The same as dictionaries."""
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield {"id": i, "name": word if i % 2 else None, "score": 1.5, "valid": True}


def dicts_nan(number: int) -> Iterator[dict[str, Any]]:
    """Dictionaries, in every other of which a float is none."""
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield {"id": i, "name": word, "score": 1.5 if i % 2 else math.nan, "valid": True}


def nested(number: int) -> Iterator[dict[str, Any]]:
    """What JSON is made of: lists and dictionaries within dictionaries."""
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield {"id": i, "tags": [word, "b"], "at": {"x": 1.5, "y": 2.5}}


def database(number: int) -> Iterator[tuple[int, Decimal, datetime, str | None]]:
    """Rows as a driver returns those of a table of orders."""
    price, when = Decimal("12.50"), datetime(2026, 1, 2, 3, 4, 5, 678901)
    for i, word in enumerate(islice(cycle(WORDS), number), 100_000):
        yield (i, price, when, word if i % 4 else None)


# Tables, one value each.


def _columns(rows: int) -> dict[str, list[Any]]:
    return {
        "id": list(range(rows)),
        "name": list(islice(cycle(WORDS), rows)),
        "score": [1.5] * rows,
    }


def plain_table(rows: int, number: int) -> Iterator[dict[str, list[Any]]]:
    """A dictionary of columns."""
    columns = _columns(rows)
    for _ in range(number):
        yield dict(columns)


def data_frames(rows: int, number: int) -> Iterator[Any]:
    """The same as a DataFrame."""
    import pandas

    frame = pandas.DataFrame(_columns(rows))
    for _ in range(number):
        yield frame.copy(deep=False)


def arrow_batches(rows: int, number: int) -> Iterator[Any]:
    """The same as record batches of Arrow."""
    import pyarrow

    batch = pyarrow.RecordBatch.from_pydict(_columns(rows))
    for _ in range(number):
        yield batch


def arrow_ipc(rows: int, number: int) -> Iterator[bytes]:
    """The same as bytes, which another Arrow reads."""
    import pyarrow

    batch = pyarrow.RecordBatch.from_pydict(_columns(rows))
    for _ in range(number):
        yield batch.serialize().to_pybytes()


def blobs(size: int, number: int) -> Iterator[bytes]:
    """One binary, again and again."""
    blob = b"x" * size
    for _ in range(number):
        yield blob


def sums(number: int) -> Iterator[int]:
    """Integers that take some ten microseconds each to compute."""
    for _ in range(number):
        yield sum(range(1_000))


async def async_ints(number: int) -> AsyncIterator[int]:
    """The same integers from an async generator."""
    for i in range(100_000, 100_000 + number):
        yield i


# Python by itself: the generator, and the generator with the encoder.


def alone(kind: str, number: int, encodes: bool) -> float:
    """Values per second that a generator makes in this thread, and that erlpack then encodes by
    256; nothing is sent."""
    generator: Iterator[Any] = globals()[kind](number)
    pack: Callable[[Any], Any] = len
    if encodes:
        import erlpack

        pack = erlpack.pack
    start = time.perf_counter()
    while run := list(islice(generator, 256)):
        pack(run)
    return number / (time.perf_counter() - start)


# Calls.


def echo(value: Any) -> Any:
    """The smallest call with an argument and a result."""
    return value


def size(value: bytes) -> int:
    """The smallest result of a large argument."""
    return len(value)


def clock() -> int:
    """The clock that values are stamped with."""
    return time.monotonic_ns()


# Values that tell when they were yielded.


def ticks(number: int, seconds: float) -> Iterator[int]:
    """One value every `seconds` seconds."""
    for _ in range(number):
        time.sleep(seconds)
        yield time.monotonic_ns()


async def async_ticks(number: int, seconds: float) -> AsyncIterator[int]:
    """The same from an async generator."""
    for _ in range(number):
        await asyncio.sleep(seconds)
        yield time.monotonic_ns()


def bursts(number: int, size: int, pause: str, seconds: float) -> Iterator[int]:
    """`size` values at once, then a pause; the last value of a burst is the clock."""
    wait = {"sleep": time.sleep, "compute": _compute, "locked": _locked}[pause]
    for _ in range(number):
        for _ in range(size - 1):
            yield 0
        yield time.monotonic_ns()
        wait(seconds)


def _compute(seconds: float) -> None:
    """Python code that does not yield; other threads may take the interpreter lock."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _locked(seconds: float) -> None:
    """C code that keeps the interpreter lock; about so long."""
    deque(islice(count(), round(seconds * 40_000_000)), maxlen=0)


async def async_bursts(number: int, size: int, seconds: float) -> AsyncIterator[int]:
    """The same from an async generator."""
    for _ in range(number):
        for _ in range(size - 1):
            yield 0
        yield time.monotonic_ns()
        await asyncio.sleep(seconds)


# Streams that do not end by themselves.


def endless(seconds: float, name: int = 0) -> Iterator[int]:
    """Integers for ever, `seconds` apart."""
    try:
        for i in count():
            yield i
            if seconds:
                time.sleep(seconds)
    finally:
        _closed.put((name, time.monotonic_ns()))


async def async_endless(seconds: float, name: int = 0) -> AsyncIterator[int]:
    """The same from an async generator."""
    try:
        for i in count():
            yield i
            await asyncio.sleep(seconds)
    finally:
        _closed.put((name, time.monotonic_ns()))


def closed(name: int) -> int:
    """When the `finally` of the endless generator with this name ran."""
    while True:
        closed_one, when = _closed.get(timeout=10)
        if closed_one == name:
            return when


def endless_blobs(size: int) -> Iterator[bytes]:
    """New binaries for ever."""
    while True:
        yield b"x" * size


def idle() -> Iterator[int]:
    """One value, and then a wait without an end."""
    yield 0
    threading.Event().wait()


async def async_idle() -> AsyncIterator[int]:
    """The same from an async generator."""
    yield 0
    await asyncio.Event().wait()
