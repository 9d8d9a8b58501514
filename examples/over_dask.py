"""Streams whose work a Dask cluster does: where the computation alone has outgrown one machine."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Any

from distributed import Client


async def mapped(
    address: str, function: Callable[[Any], Any], values: Iterable[Any], ahead: int = 4
) -> AsyncIterator[Any]:
    """Call a function for each value on the cluster at `address`, and yield the results in order.

    At most `ahead` calls are under way or wait to be taken. They end with the stream, also while
    that waits for a result: as a cancel, or because the owner has ended.
    """
    rest = iter(values)
    # Of this event loop. One that is not would wait in a thread, and a cancel with it.
    async with Client(address, asynchronous=True) as client:
        running: deque[Any] = deque()

        def submit(count: int) -> None:
            running.extend(client.submit(function, v, pure=False) for v in islice(rest, count))

        submit(ahead)
        try:
            while running:
                # It stays in the list while it is awaited, to be cancelled with the others.
                yield await running[0]
                running.popleft()
                submit(1)
        finally:
            await client.cancel(list(running), force=True)


def square(number: int) -> int:
    """What runs on the cluster."""
    return number * number


def squares(address: str, count: int) -> AsyncIterator[int]:
    """The squares of the numbers below `count`."""
    return mapped(address, square, range(count))
