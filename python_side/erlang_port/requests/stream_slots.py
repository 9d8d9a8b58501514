"""Which sync streams run, and which wait: `max_threads` of them have a slot at a time."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable
from threading import Lock, get_ident

from erlang_port.context import Request
from erlang_port.requests.stream import Stream
from erlang_port.runtime.thread_pool import ThreadPool, Work
from erlang_port.wire.receiver import Receiver


class StreamSlots:
    """At most `limit` sync streams run; the others wait, in the order in which they came."""

    def __init__(self, limit: int, threads: ThreadPool, receiver: Receiver) -> None:
        self._limit = limit
        self._threads = threads
        self._receiver = receiver
        #: Which makes this object.
        self._main_thread = get_ident()
        #: Guards the two below.
        self._lock = Lock()
        self._running = 0
        #: In the order in which they came, which is not that in which they were opened.
        self._waiting: deque[Stream] = deque()
        #: How many have waited so far.
        self.waits = 0

    def statistics(self) -> dict[str, int]:
        """How many run and how many wait."""
        return {"sync_streams": self._running, "waiting_streams": len(self._waiting)}

    def run(self, stream: Stream) -> None:
        """Iterates on the calling thread, unless too many do; then when one of them has ended."""
        with self._lock:
            # One that is cancelled can end without a slot.
            has_slot = not stream.is_cancelled
            if has_slot and self._running >= self._limit:
                self.waits += 1
                bisect.insort(self._waiting, stream, key=lambda waiting: waiting.order)
                return
            self._running += has_slot
        if has_slot:
            self._run_in_slot(stream)
        else:
            stream.runner.run()

    def run_on_main(self, stream: Stream) -> None:
        """The same on the main thread, where one runs at a time."""
        self._running += 1
        stream.runner.run()
        self._running -= 1

    def withdraw(self, stream: Stream) -> Work | None:
        """What ends a stream that waits, and has been cancelled; without a slot."""
        with self._lock:
            if stream not in self._waiting:
                return None
            self._waiting.remove(stream)
        return stream.runner.run

    def lend(self, request: Request | None) -> Callable[[], None]:
        """The calling thread waits for the node: others may have its slot meanwhile.

        Otherwise calls that go to and fro between Python and Erlang would wait for a thread
        that waits for them. Returns what ends the wait; the limit may be exceeded for a while.
        """
        if get_ident() == self._main_thread:
            return _nothing
        self._threads.begin_blocking()
        if request is None or not request.has_slot:
            return self._threads.end_blocking
        self._receiver.release(request)
        self._next()

        def reclaim() -> None:
            self._threads.end_blocking()
            with self._lock:
                self._running += 1

        return reclaim

    def _run_in_slot(self, stream: Stream) -> None:
        stream.has_slot = True
        try:
            stream.runner.run()
        finally:
            self._next()

    def _next(self) -> None:
        with self._lock:
            # The limit is exceeded after a stream has had its slot back.
            if not self._waiting or self._running > self._limit:
                self._running -= 1
                return
            stream = self._waiting.popleft()
        self._threads.submit(lambda: self._run_in_slot(stream))


def _nothing() -> None:
    """The main thread has no slot."""
