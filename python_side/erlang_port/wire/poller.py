"""Where idle threads wait for frames: leader and followers.

All idle threads wait at one poller. The kernel wakes one of them for each arrival; it
reads what is there and does the work itself, while the others go on waiting. So a
call costs no hand-over from a reading thread to a working one. On the machine of
docs/benchmarks.md a round trip through this poller took 10 to 11 us where a C program
took 8, and 17 us where the reading thread handed the poller to the next one.
"""

from __future__ import annotations

import os
import select
from threading import Lock

#: As it is before user code, which may replace it.
_make_poll = select.poll

#: As it is where there is epoll.
_HANG_UP = 0x10


class EpollPoller:
    """Threads wait; an arrival, or a call of `wake`, lets one of them through."""

    def __init__(self, fd: int) -> None:
        self._wakeup_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        # Edge-triggered: level-triggered would wake a second thread while the first
        # one reads. The eventfd is never read: each write is an edge of its own.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._epoll.register(self._wakeup_fd, select.EPOLLIN | select.EPOLLET)
        self._fd = fd
        #: Whether `wake` was called, and no thread has come through for it.
        self._wakes = False

    def wait(self, timeout: float) -> bool:
        """Waits for `timeout` seconds; false when nothing came."""
        events = self._epoll.poll(timeout, 1)
        if not events:
            return False
        fd, flags = events[0]
        if fd == self._wakeup_fd:
            # Before the caller checks what there is to do: what comes later wakes again.
            self._wakes = False
        elif flags & _HANG_UP:
            # epoll reports data and hang-up in one edge. The thread that reads the data does
            # not see the hang-up, so another thread is woken to read the end.
            self.wake()
        return True

    def wake(self) -> None:
        """Lets one thread through, unless one is on its way that was not through yet."""
        if not self._wakes:
            self._wakes = True
            os.eventfd_write(self._wakeup_fd, 1)

    def pause(self) -> None:
        """From now on arrivals let nobody through: somebody polls."""
        self._epoll.modify(self._fd, 0)

    def resume(self) -> None:
        """Arrivals let threads through again, and one that was not read does so now."""
        self._epoll.modify(self._fd, select.EPOLLIN | select.EPOLLET)

    def poll(self, seconds: float) -> bool:
        """Waits for an arrival outside the poller."""
        # An object of its own: a thread that has just lost the right to read may still be
        # in here when the next one comes, and two in one object are an error.
        poll = _make_poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def descriptors(self) -> tuple[int, ...]:
        """What a forked child must close."""
        return self._wakeup_fd, self._epoll.fileno()


class PollPoller:
    """The same where there is no epoll (macOS): one thread polls, the others wait for it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wakeup_read_fd, self._wakeup_write_fd = os.pipe()
        os.set_blocking(self._wakeup_read_fd, False)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._wakeup_read_fd, select.POLLIN)
        self._turn = Lock()

    def wait(self, timeout: float) -> bool:
        """Waits for `timeout` seconds; false when nothing came."""
        if not self._turn.acquire(timeout=timeout):
            return False
        try:
            ready = self._poll.poll(timeout * 1000)
            if any(fd == self._wakeup_read_fd for fd, _ in ready):
                try:
                    os.read(self._wakeup_read_fd, 1)
                except BlockingIOError:
                    pass
            return bool(ready)
        finally:
            self._turn.release()

    def wake(self) -> None:
        """Lets one thread through."""
        os.write(self._wakeup_write_fd, b"!")

    def pause(self) -> None:
        """Arrivals let one through all the same; it finds nothing to read, or reads."""

    def resume(self) -> None:
        """As it is always."""

    def poll(self, seconds: float) -> bool:
        """Waits for an arrival outside the poller."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def descriptors(self) -> tuple[int, ...]:
        """What a forked child must close."""
        return self._wakeup_read_fd, self._wakeup_write_fd


Poller = EpollPoller | PollPoller


def make_poller(fd: int) -> Poller:
    """The poller that this system has."""
    if hasattr(select, "epoll") and hasattr(os, "eventfd"):
        return EpollPoller(fd)
    return PollPoller(fd)
