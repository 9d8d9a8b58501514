"""The threads that read frames, run calls and iterate sync generators.

Every thread does the same: it waits at the poller, reads what came, and does the first
piece of work itself. While one works, another waits at the poller, always: before a
thread takes on work that may last, it sees to that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from threading import Lock, get_ident

from erlang_port.runtime.memory_limit import MemoryLimit
from erlang_port.runtime.threads import start_thread
from erlang_port.wire.poller import Poller

Work = Callable[[], None]
Reader = Callable[[], list[Work]]

#: Threads that stay when there is nothing to do. More cost memory (about 50 KiB each);
#: fewer cost a thread's start, about 100 us, when that many requests come at once.
MIN_IDLE = 4

#: How long a thread beyond those stays idle, in seconds.
IDLE_SECONDS = 10.0

#: For so long no thread is asked for after the system has refused one. A smaller number
#: costs attempts that fail, a larger one lets work wait when there can be threads again.
REFUSED_SECONDS = 0.2


class ThreadPool:
    """Runs work on at most `limit` threads, one more than that to read."""

    def __init__(
        self,
        poller: Poller,
        limit: int,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._poller = poller
        self._limit = limit
        self._failed = failed
        self._read: Reader = list
        self._memory: MemoryLimit | None = None
        #: Called when a thread was idle for long and ends.
        self._ended: Callable[[], None] = _nothing
        self._work: deque[Work] = deque()
        self._lock = Lock()
        self._idle = 0
        self._total = 0
        self._blocked = 0
        self._closed = False
        #: Of each thread, while it lasts.
        self._threads: set[int] = set()
        #: Those that must not end, see `keep`.
        self._kept: set[int] = set()
        #: When the system last refused a thread.
        self._refused = -1.0
        #: How much work has waited for one of the threads, of which there are no more.
        self.waits = 0

    def start(
        self,
        read: Reader,
        memory: MemoryLimit | None = None,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Starts the first threads; idle ones call `read` for what has come."""
        self._read = read
        self._memory = memory
        if ended is not None:
            self._ended = ended
        for _ in range(MIN_IDLE):
            self._spawn()

    def submit(self, work: Work) -> None:
        """Runs work on some thread, soon."""
        self._work.append(work)
        self._ensure_reader()
        self._poller.wake()

    def begin_blocking(self) -> None:
        """The calling thread waits for something that other threads may have to do."""
        with self._lock:
            self._total -= 1
            self._blocked += 1
        self._ensure_reader()
        if self._work:
            self._poller.wake()

    def end_blocking(self) -> None:
        """It works again; there may be more threads than the limit for a while."""
        with self._lock:
            self._total += 1
            self._blocked -= 1

    def keep(self) -> bool:
        """Lets the calling thread end only with the process; false if it is not of these."""
        if get_ident() not in self._threads:
            return False
        self._kept.add(get_ident())
        return True

    def close(self) -> None:
        """Lets idle threads end; those that work end after it."""
        self._closed = True
        self._poller.wake()

    def statistics(self) -> dict[str, int]:
        """Threads in all, threads that wait, and pieces of work that wait for one."""
        return {
            "threads": self._total + self._blocked,
            "idle_threads": self._idle,
            "queued": len(self._work),
        }

    def _spawn(self) -> None:
        with self._lock:
            self._total += 1
            self._idle += 1
        if self._memory is not None:
            self._memory.thread_starts()
        try:
            start_thread(self._serve, "erlang_port")
        except BaseException:
            # Out of memory or of threads. Those that there are go on.
            self._refused = time.monotonic()
            with self._lock:
                self._total -= 1
                self._idle -= 1
            if self._memory is not None:
                self._memory.thread_ends()

    def _ensure_reader(self) -> None:
        if self._idle < 1 and self._may_spawn() and not self._closed:
            self._spawn()

    def _may_spawn(self) -> bool:
        # One thread above the limit is kept for reading, so that a cancel is read even when all
        # others are busy.
        if self._total > self._limit:
            return False
        return self._refused < 0 or time.monotonic() - self._refused > REFUSED_SECONDS

    def _has_reader(self) -> bool:
        """Whether another thread is left to read, so that this one may work."""
        self._ensure_reader()
        if self._idle > 0 or self._total > self._limit:
            return True
        with self._lock:
            self._idle += 1
        return False

    def _serve(self) -> None:
        # Threads inherit this. Those that user code starts are joined at the end, as in any
        # Python, unless it says otherwise; these are not.
        threading.current_thread()._daemonic = False  # type: ignore[attr-defined]
        self._threads.add(get_ident())
        try:
            while not self._closed:
                work = self._next()
                if work is None:
                    return
                work()
                del work
                with self._lock:
                    self._idle += 1
        except BaseException as error:
            # Whatever it was about would never be answered.
            self._failed(error)
        finally:
            self._threads.discard(get_ident())

    def _next(self) -> Work | None:
        """Waits for work; None ends the thread. The thread is idle until it returns."""
        poller, queue = self._poller, self._work
        while True:
            if queue and self._may_work():
                try:
                    work = queue.popleft()
                except IndexError:
                    with self._lock:
                        self._idle += 1
                else:
                    if self._has_reader():
                        # What is handed in while a thread is on its way wakes no other, so
                        # each thread that takes work wakes the next.
                        if queue:
                            poller.wake()
                        return work
                    queue.appendleft(work)
                    del work
            came = poller.wait(REFUSED_SECONDS if queue else IDLE_SECONDS)
            if self._closed:
                poller.wake()  # The next one.
                return None
            if not came and self._may_leave():
                return None
            if came:
                found = self._read()
                if len(found) == 1 and not queue:
                    with self._lock:
                        # Another thread is idle, and reads.
                        may_work = self._idle > 1
                        self._idle -= may_work
                    if may_work or (self._may_work() and self._has_reader()):
                        return found[0]
                if self._idle <= 1 and self._total > self._limit:
                    # There is this thread to read, and no other.
                    self.waits += len(found)
                queue.extend(found)

    def _may_work(self) -> bool:
        # The last idle thread never takes work where no other can be had: it reads.
        with self._lock:
            if self._idle > 1 or self._may_spawn():
                self._idle -= 1
                return True
            return False

    def _may_leave(self) -> bool:
        with self._lock:
            if self._idle <= MIN_IDLE or self._work or get_ident() in self._kept:
                return False
            self._idle -= 1
            self._total -= 1
        if self._memory is not None:
            self._memory.thread_ends()
        self._ended()
        return True


def _nothing() -> None:
    """Nobody wants to know."""
