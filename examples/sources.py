"""Things that a Python program may want to stream."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator

closed = threading.Event()


def lines(path: str) -> Iterator[tuple[int, str]]:
    """Yield a file's lines with their numbers; the file is never in memory as a whole."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            yield number, line.rstrip("\n")


async def load(readings: int, pause: float) -> AsyncIterator[dict[str, float]]:
    """Yield the machine's load every now and then. While it waits it holds up nobody."""
    for _ in range(readings):
        yield {"load": os.getloadavg()[0], "cpu_seconds": time.process_time()}
        await asyncio.sleep(pause)


def count_for_ever() -> Iterator[int]:
    """Yield until somebody cancels."""
    number = 0
    try:
        while True:
            yield number
            number += 1
    finally:
        print(f"Python: count_for_ever() was closed after {number} values")
        closed.set()


def wait_until_closed(seconds: float) -> bool:
    """Whether count_for_ever() was closed within `seconds` seconds."""
    return closed.wait(seconds)


def temperatures(texts: list[str]) -> Iterator[float]:
    """Yield numbers until one of the texts is none."""
    for text in texts:
        yield float(text)
