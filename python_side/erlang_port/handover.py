"""Waiting for the next value of what another thread gives: on a thread, or on an event loop.

What is waited for has a function `take`. It returns the next value, END, or EMPTY; then it calls
the function that it was given, once, when that changes, from whatever thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from erlang_port.hints import Any, Final

EMPTY: Final = object()
END: Final = object()

Wake = Callable[[], object]
Take = Callable[["Wake | None"], Any]

#: What wakes the calling thread, and what it then waits with.
Waiter = Callable[[], "tuple[Wake, Wake]"]


def next_value(take: Take, waiter: Waiter) -> Any:
    """The next value, or END."""
    value = take(None)
    while value is EMPTY:
        wake, wait = waiter()
        value = take(wake)
        if value is EMPTY:
            wait()
            value = take(None)
    return value


async def next_value_async(take: Take) -> Any:
    """The same on any event loop."""
    value = take(None)
    if value is not EMPTY:
        return value
    import asyncio  # Not for those who only import the types.

    loop = asyncio.get_running_loop()
    while value is EMPTY:
        change = loop.create_future()
        value = take(partial(_finish_soon, loop, change))
        if value is EMPTY:
            await change
            value = take(None)
    return value


def _finish_soon(loop: Any, change: Any) -> None:
    def finish() -> None:
        if not change.done():
            change.set_result(None)

    try:
        loop.call_soon_threadsafe(finish)
    except RuntimeError:
        pass  # The loop was closed meanwhile, so nobody waits.
