"""The pool option `memory_limit`: how many bytes a worker may allocate.

The limit is the operating system's (setrlimit(2), RLIMIT_DATA: private writable memory,
whether allocated by Python or by C code), so that an allocation past it fails with
MemoryError where it is made, and the worker lives. RLIMIT_AS would count address space
that is only reserved, such as malloc's arenas, 64 MiB for each thread.

What the worker had when it started is not counted, nor are the stacks and buffers of
its own threads: how many there are is not the user's doing. Linux only: macOS takes the
limit and does not enforce it. Child processes inherit it.
"""

from __future__ import annotations

import resource
import threading
from threading import Lock

#: glibc keeps the stacks of ended threads up to 40 MiB, and so does this account.
_KEPT_STACKS = 40 * 1024 * 1024

#: What else a thread of the worker's has for itself: its encoder's buffer, 1 MiB with
#: erlpack, and its part of the C library's heap.
_THREAD_BYTES = 2 * 1024 * 1024

#: The size of a thread's stack where the limit for stacks says nothing.
_DEFAULT_STACK = 8 * 1024 * 1024


class MemoryLimit:
    """An account of what the worker may allocate; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        self._allowed = _allocated() + limit
        self._stack = (threading.stack_size() or _stack_size()) + _THREAD_BYTES
        self._threads = 0
        self._most_threads = 0
        self._lock = Lock()
        self._set()

    def thread_starts(self) -> None:
        """The worker is about to start a thread of its own."""
        with self._lock:
            self._threads += 1
            self._most_threads = max(self._most_threads, self._threads)
            self._set()

    def thread_ends(self) -> None:
        """One of them has ended, or could not be started."""
        with self._lock:
            self._threads -= 1
            self._set()

    def _set(self) -> None:
        kept = self._threads + _KEPT_STACKS // self._stack
        stacks = min(self._most_threads, kept) * self._stack
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = self._allowed + stacks
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _allocated() -> int:
    """Bytes of private writable memory now (proc_pid_statm(5), `data`)."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def _stack_size() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return _DEFAULT_STACK if soft == resource.RLIM_INFINITY else soft
