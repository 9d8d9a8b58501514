"""The ticker: flushes runs of values whose generator pauses, and keeps deadlines."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from threading import Lock
from time import sleep

from erlang_port.hints import Protocol
from erlang_port.runtime.threads import start_thread

#: How long a value that was yielded after others in quick succession may wait for the
#: rest of its run. A larger number delays the last value of a burst; a smaller one
#: costs wake-ups, about 10 us each, while some generator yields fast.
TICK_SECONDS = 0.001

#: Ticks without anything to flush after which the thread sleeps until it is called.
#: A larger number costs wake-ups for nothing; a smaller one costs the generators a call.
LAST_TICKS = 20


class Tickable(Protocol):
    """What has something to send while it collects values."""

    def tick(self) -> None:
        """Called every tick."""


class Ticker:
    """One thread, asleep while nothing yields fast and no deadline is near."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._active: set[Tickable] = set()
        self._deadlines: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._lock = Lock()
        self._wakeup = Lock()
        self._wakeup.acquire()
        self._asleep = False
        self._closed = False

    def start(self) -> None:
        """Starts the thread."""
        start_thread(self._run, "erlang_port ticker")

    def close(self) -> None:
        """Ends the thread."""
        self._closed = True
        self._wake()

    def add(self, ticked: Tickable) -> None:
        """From now on `ticked` is called every tick."""
        self._active.add(ticked)
        if self._asleep:
            self._wake()

    def discard(self, ticked: Tickable) -> None:
        """No more of that."""
        self._active.discard(ticked)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Calls a function once, after `seconds`; it must be quick."""
        with self._lock:
            entry = (time.monotonic() + seconds, next(self._numbers), function)
            heapq.heappush(self._deadlines, entry)
        self._wake()

    def _wake(self) -> None:
        try:
            self._wakeup.release()
        except RuntimeError:
            pass  # It wakes already.

    def _run(self) -> None:
        try:
            self._tick()
        except BaseException as error:
            # Nobody would flush or interrupt any more.
            self._failed(error)

    def _tick(self) -> None:
        quiet = 0
        while not self._closed:
            if self._active:
                quiet = 0
                # By `list`, which copies a set in one step also where threads run at the same time.
                for ticked in list(self._active):
                    ticked.tick()
            else:
                quiet += 1
            self._run_deadlines()
            if quiet <= LAST_TICKS:
                sleep(TICK_SECONDS)
                continue
            self._asleep = True
            # A stream added between the check and this line saw `_asleep` false and did not wake
            # the thread: checked once more.
            if not self._active:
                self._wakeup.acquire(timeout=self._until_next())
            self._asleep = False

    def _until_next(self) -> float:
        with self._lock:
            if not self._deadlines:
                return -1
            return max(0.0, self._deadlines[0][0] - time.monotonic())

    def _run_deadlines(self) -> None:
        due = []
        if self._deadlines:
            now = time.monotonic()
            with self._lock:
                while self._deadlines and self._deadlines[0][0] <= now:
                    due.append(heapq.heappop(self._deadlines)[2])
        for function in due:
            function()
