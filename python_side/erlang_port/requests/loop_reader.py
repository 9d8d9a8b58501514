"""Reads on the event loop while async streams run at full speed.

The loop's thread holds the interpreter lock nearly all the time then, and another thread that
reads credit would cost hand-overs of it, and have to wake the loop. So the loop waits for the
port, too, and reads for all streams. The ticker lets others read again when no run has ended
for two ticks: the streams pause, or some code on the loop computes. So does a call, or another
request, which a thread begins sooner that has read it itself: the next may follow.
"""

from __future__ import annotations

from erlang_port.batching import RUNS_PER_READ
from erlang_port.context import WorkerContext

#: After a request others read for this many runs, at least 10 ms. More leave streams slow for
#: longer after each, with fewer more calls wait for a thread to which they are handed.
RUNS_AFTER_REQUEST = 256


class LoopReader:
    """The lease of the receiver that the async streams share; all but `tick` is for the loop."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._runs = 0
        #: How many runs are left for which others read.
        self._runs_of_others = 0
        self._last_tick = -1
        self._is_waiting = False

    def run_ended(self) -> None:
        """A stream at full speed has sent a run."""
        self._runs += 1
        receiver = self._context.receiver
        if receiver.lessee is self:
            if self._runs % RUNS_PER_READ == 0:
                self._context.loop.read_now(self._read)
            return
        if self._runs_of_others > 0:
            self._runs_of_others -= 1
            return
        receiver.lease(self)
        if receiver.lessee is self and not self._is_waiting:
            self._is_waiting = True
            self._context.loop.read_when_ready(receiver.fd, self._read)
            self._context.ticker.add(self)

    def _read(self) -> None:
        receiver = self._context.receiver
        if receiver.lessee is self:
            found = receiver.read()
            for work in found:
                self._context.threads.submit(work)
            if found:
                self._runs_of_others = RUNS_AFTER_REQUEST
                receiver.release(self)
        if receiver.lessee is not self:
            self._stop()

    def tick(self) -> None:
        """Lets others read if no run has ended since the last tick."""
        if self._runs == self._last_tick and self._context.receiver.lessee is self:
            self._context.receiver.release(self)
            self._context.loop.call_soon_threadsafe(self._stop)
        self._last_tick = self._runs

    def _stop(self) -> None:
        receiver = self._context.receiver
        if self._is_waiting and receiver.lessee is not self:
            self._is_waiting = False
            self._context.ticker.discard(self)
            self._context.loop.stop_reading(receiver.fd)
