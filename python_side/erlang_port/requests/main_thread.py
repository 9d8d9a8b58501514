"""What runs on Python's main thread, one after another, in the order of arrival.

The code of `py:exec`, where signal handlers may be set; and every call and sync stream of a
worker with the option `thread => main`.
"""

from __future__ import annotations

import queue
from collections.abc import Callable

from erlang_port.hints import Any
from erlang_port.runtime.interrupt import InterruptibleRegion
from erlang_port.runtime.thread_pool import Work


class MainThread:
    """A queue of requests, each with its work, and the loop that runs it."""

    def __init__(
        self,
        region: Callable[[], InterruptibleRegion],
        print_error: Callable[[BaseException], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._region = region
        self._print_error = print_error
        self._failed = failed
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        #: What waits. Whoever takes a request out of here runs its work.
        self._waiting: dict[Any, Work] = {}
        self._is_busy = False
        #: How many have waited for others so far.
        self.waits = 0

    def submit(self, request: object, work: Work) -> None:
        """Runs the work of a request in its turn; from any thread."""
        if self._is_busy or self._waiting:
            self.waits += 1
        self._waiting[request] = work
        self._queue.put(request)

    def submit_work(self, work: Work) -> None:
        """The same for what belongs to no request."""
        self.submit(object(), work)

    def withdraw(self, request: object) -> Work | None:
        """The work of a request, if it still waits: it is the caller's to run."""
        return self._waiting.pop(request, None)

    def stop(self) -> None:
        """Lets `run` return when it has run what was submitted before."""
        self._queue.put(None)

    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def run(self) -> None:
        """Runs what is submitted until `stop`."""
        while True:
            try:
                request = self._queue.get()
            except BaseException as error:
                # A signal: KeyboardInterrupt, or what a handler of the user's raised.
                self._print_error(error)
                continue
            if request is None:
                return
            try:
                work = self._waiting.pop(request, None)
                if work is not None:
                    self._is_busy = True
                    work()
                    self._is_busy = False
                # Not kept until the next one comes.
                del request, work
            except BaseException as error:
                self._failed(error)
            self._region().reacquire()
