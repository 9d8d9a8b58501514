"""The threads: somebody always reads, and work is done side by side up to the limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from erlang_port.runtime.thread_pool import MIN_IDLE, ThreadPool
from erlang_port.wire.frame_reader import FrameReader
from erlang_port.wire.poller import make_poller
from port import PATIENCE, eventually, shut

Work = Callable[[], None]


class Reading:
    """Threads that read numbers from a pipe; each but 0 names a piece of work."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._read_fd, self._write_fd = os.pipe()
        self._frame_reader = FrameReader(self._read_fd)
        self._poller = make_poller(self._read_fd)
        self._lock = threading.Lock()
        self.work: dict[int, Work] = {}
        self.zeros = 0
        self.failures: list[BaseException] = []
        self.threads = ThreadPool(self._poller, limit, self.failures.append)
        self.threads.start(self._read)

    def _read(self) -> list[Work]:
        with self._lock:
            numbers = [frame[0] for frame in self._frame_reader.frames()]
            self.zeros += numbers.count(0)
            return [self.work[number] for number in numbers if number]

    def send(self, *numbers: int) -> None:
        os.write(self._write_fd, b"".join(b"\0\0\0\1" + bytes((number,)) for number in numbers))

    def count(self, name: str) -> int:
        return self.threads.statistics()[name]

    def close(self) -> None:
        self.threads.close()
        eventually(self._is_empty)
        shut(self._poller)
        os.close(self._write_fd)
        os.close(self._read_fd)
        assert self.failures == []

    def _is_empty(self) -> bool:
        self._poller.wake()
        return not self.threads._threads


@pytest.fixture(params=[1, 2, 8])
def reading(request: pytest.FixtureRequest) -> Iterator[Reading]:
    made = Reading(request.param)
    yield made
    made.close()


class Job:
    """Work that stays until it is let go."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()
        self.has_ended = threading.Event()

    def __call__(self) -> None:
        self.has_begun.set()
        self.may_end.wait(PATIENCE)
        self.has_ended.set()


def test_what_arrives_is_done(reading: Reading) -> None:
    done = [threading.Event() for _ in range(50)]
    reading.work = {i + 1: event.set for i, event in enumerate(done)}
    for number in reading.work:
        reading.send(number)
    assert all(event.wait(PATIENCE) for event in done)


def test_what_arrives_together_is_done_side_by_side(reading: Reading) -> None:
    jobs = [Job() for _ in range(reading.limit)]
    reading.work = {i + 1: job for i, job in enumerate(jobs)}
    reading.send(*reading.work)
    assert all(job.has_begun.wait(PATIENCE) for job in jobs)
    for job in jobs:
        job.may_end.set()


def test_past_the_limit_work_waits_and_arrivals_are_read(reading: Reading) -> None:
    most = max(reading.limit, MIN_IDLE)
    jobs = [Job() for _ in range(most + 3)]
    reading.work = {i + 1: job for i, job in enumerate(jobs)}
    reading.send(*reading.work)
    eventually(lambda: sum(job.has_begun.is_set() for job in jobs) >= reading.limit)
    eventually(lambda: reading.count("queued") >= 3)
    assert reading.count("threads") <= most + 1
    # A frame without work, such as a cancel, is dispatched although all are busy.
    reading.send(0)
    eventually(lambda: reading.zeros == 1)
    for job in jobs:
        job.may_end.set()
    assert all(job.has_ended.wait(PATIENCE) for job in jobs)


def test_work_can_be_handed_in_from_outside_and_from_work(reading: Reading) -> None:
    done = threading.Event()
    reading.threads.submit(lambda: reading.threads.submit(done.set))
    assert done.wait(PATIENCE)


def test_a_thread_that_blocks_keeps_nobody_waiting() -> None:
    reading = Reading(1)
    innermost, outermost = threading.Event(), threading.Event()

    def nested(depth: int) -> None:
        if depth == 0:
            innermost.set()
            return
        done = threading.Event()

        def deeper() -> None:
            nested(depth - 1)
            done.set()

        reading.threads.submit(deeper)
        reading.threads.begin_blocking()
        done.wait(PATIENCE)
        reading.threads.end_blocking()

    def begin() -> None:
        nested(20)
        outermost.set()

    reading.threads.submit(begin)
    assert innermost.wait(PATIENCE)
    assert outermost.wait(PATIENCE)
    reading.close()


def test_threads_are_counted(reading: Reading) -> None:
    job = Job()
    reading.threads.submit(job)
    assert job.has_begun.wait(PATIENCE)
    eventually(lambda: reading.count("threads") == reading.count("idle_threads") + 1)
    assert reading.count("queued") == 0
    job.may_end.set()
    eventually(lambda: reading.count("threads") == reading.count("idle_threads"))
