"""No wake-up is lost, in whatever order threads hand work in, come through and take it.

The threads are steps that hypothesis puts in order, at a poller that is the real one; a write to
its eventfd is a step of its own, apart from the decision to write.
"""

from __future__ import annotations

import os
import select
from collections import deque

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from erlang_port.wire.poller import EpollPoller
from port import shut

if not hasattr(select, "epoll"):
    pytest.skip("there is no epoll here", allow_module_level=True)


class SteppedPoller(EpollPoller):
    """A poller whose `wake` stops before its write."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.eventfd = self._wakeup_fd
        self.decided = 0

    def write(self) -> None:
        self.decided -= 1
        os.eventfd_write(self.eventfd, 1)


class WakeUps(RuleBasedStateMachine):
    """As `ThreadPool.submit` and `ThreadPool._next` use the poller."""

    def __init__(self) -> None:
        super().__init__()
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self.poller = SteppedPoller(self.read_fd)
        #: Work that was handed in, and how many have yet to wake a thread for it.
        self.queue: deque[object] = deque()
        self.submitters = 0
        #: Threads that wait, that have come through, that have taken work, that do it.
        self.waiting, self.through, self.taken, self.working = 3, 0, 0, 0

    def _wake(self) -> None:
        write = os.eventfd_write
        os.eventfd_write = self._decide  # type: ignore[assignment]
        try:
            self.poller.wake()
        finally:
            os.eventfd_write = write

    def _decide(self, _fd: int, _value: int) -> None:
        self.poller.decided += 1

    @rule()
    def queue_work(self) -> None:
        self.queue.append(object())
        self.submitters += 1

    @precondition(lambda self: self.submitters)
    @rule()
    def wake_for_it(self) -> None:
        self.submitters -= 1
        self._wake()

    @precondition(lambda self: self.poller.decided)
    @rule()
    def write(self) -> None:
        self.poller.write()

    @rule()
    def arrive(self) -> None:
        os.write(self.write_fd, b"x")

    @rule()
    def come_through(self) -> None:
        if self.waiting and self.poller.wait(0):
            self.waiting -= 1
            self.through += 1

    @precondition(lambda self: self.through)
    @rule()
    def take(self) -> None:
        self.through -= 1
        try:
            os.read(self.read_fd, 100)
        except BlockingIOError:
            pass
        if self.queue:
            self.queue.popleft()
            self.taken += 1
        else:
            self.waiting += 1

    @precondition(lambda self: self.taken)
    @rule()
    def wake_the_next(self) -> None:
        self.taken -= 1
        self.working += 1
        if self.queue:
            self._wake()

    @precondition(lambda self: self.working)
    @rule()
    def finish(self) -> None:
        self.working -= 1
        self.through += 1

    def teardown(self) -> None:
        """Work that was taken lasts; the rest goes on until no thread has anything to do."""
        try:
            while self._goes_on():
                pass
            assert not self.queue or not self.waiting
        finally:
            shut(self.poller)
            os.close(self.read_fd)
            os.close(self.write_fd)

    def _goes_on(self) -> bool:
        if self.submitters:
            self.wake_for_it()
        elif self.poller.decided:
            self.poller.write()
        elif self.taken:
            self.wake_the_next()
        elif self.through:
            self.take()
        else:
            self.come_through()
            return self.through > 0
        return True


TestWakeUps = WakeUps.TestCase
TestWakeUps.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
