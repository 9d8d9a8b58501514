"""Streams whose work a Ray cluster does: where the computation alone has outgrown one machine."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import ray


def connect(address: str = "auto") -> None:
    """Connect this worker to a cluster that something else has started. For a pool's `preload`."""
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)


async def streamed(
    function: Callable[..., Iterator[Any]], *args: Any, ahead: int = 4
) -> AsyncIterator[Any]:
    """Run a generator function on the cluster, and yield what it yields.

    It is at most `ahead` values ahead of what was taken. It ends with the stream, also while
    that waits for a value: as a cancel, or because the owner has ended.
    """
    # Without the second option the task runs to its end, whoever takes its values.
    task = ray.remote(num_returns="streaming", _generator_backpressure_num_objects=ahead)(function)
    values = task.remote(*args)
    try:
        async for value in values:
            yield await value
    finally:
        # Without it the task would go on when nobody wants more.
        ray.cancel(values)


def squares_there(count: int) -> Iterator[int]:
    """What runs on the cluster."""
    for number in range(count):
        yield number * number


def squares(count: int) -> AsyncIterator[int]:
    """The squares of the numbers below `count`."""
    return streamed(squares_there, count)
