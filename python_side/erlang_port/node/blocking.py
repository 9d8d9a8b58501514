"""How code that runs for a request waits for the node."""

from __future__ import annotations

import threading
from collections.abc import Callable

from erlang_port.current import current
from erlang_port.hints import Any, TypeVar
from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.interrupt import InterruptibleRegion, OneShotEvent

T = TypeVar("T")

#: Gives the slot of a request's thread to others; returns what takes it back.
Lend = Callable[[Any], Callable[[], None]]


class BlockingWait:
    """Whether a thread may wait, and the wait itself, whose slot others may have meanwhile."""

    def __init__(
        self, region: Callable[[], InterruptibleRegion], loop: EventLoop, lend: Lend
    ) -> None:
        self._region = region
        self._loop = loop
        self._lend = lend

    def region(self) -> InterruptibleRegion | None:
        """The calling thread's region of user code, if it is in one."""
        region = self._region()
        return region if region.is_current() else None

    def is_loop(self, region: InterruptibleRegion | None) -> bool:
        """Whether that is the event loop's."""
        return region is not None and region is self._loop.region

    def may_wait(self, region: InterruptibleRegion | None) -> bool:
        """Whether the calling thread, in this region of user code, may wait for the node."""
        if region is None:
            # A finalizer may run in a thread that everything waits for.
            return not threading.current_thread().name.startswith("erlang_port")
        return not self.is_loop(region)

    def shielded(
        self, region: InterruptibleRegion | None, function: Callable[..., T], *args: Any
    ) -> T:
        """Calls what no interrupt may break off: the writing of a frame."""
        return function(*args) if region is None else region.shielded(function, *args)

    def wait(
        self, event: OneShotEvent, region: InterruptibleRegion | None, timeout: float = -1
    ) -> bool:
        """Waits on the calling thread; false if the event was not set in time."""
        if region is None:
            return event.wait(timeout)
        return region.shielded(self._wait_lent, event, region, timeout)

    def _wait_lent(self, event: OneShotEvent, region: InterruptibleRegion, timeout: float) -> bool:
        take_back = self._lend(current.get())
        try:
            return region.wait(event, timeout)
        finally:
            take_back()
