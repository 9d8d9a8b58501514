"""Who reads while async streams run at full speed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from erlang_port.batching import RUNS_PER_READ
from erlang_port.requests.loop_reader import RUNS_AFTER_REQUEST, LoopReader
from fakes import FakeTicker
from port import PATIENCE, eventually
from streams import NodeClient, StreamContext, options


class Receiver:
    """One of a pipe, whose end is the end of all reading."""

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        self.lessee: object = None
        self.found: list[bytes] = []
        self.reads = 0
        self.readers: set[int] = set()
        self.work = threading.Event()

    def lease(self, lessee: object) -> None:
        self.lessee = self.lessee or lessee

    def release(self, lessee: object) -> None:
        if self.lessee is lessee:
            self.lessee = None

    def read(self) -> list[Callable[[], None]]:
        self.reads += 1
        self.readers.add(threading.get_ident())
        try:
            self.found.append(os.read(self.fd, 100))
        except BlockingIOError:
            return []
        if not self.found[-1]:
            self.lessee = None
        self.then()
        return [self.work.set] if self.found[-1] == b"request" else []

    def then(self) -> None:
        """What reading leads to."""


class Reading:
    """A reader on a loop of its own."""

    def __init__(self) -> None:
        self.context = StreamContext(NodeClient(options()))
        self.receiver = self.context.receiver = Receiver()  # type: ignore[assignment]
        self.ticker: FakeTicker = self.context.ticker
        self.reader = LoopReader(self.context)  # type: ignore[arg-type]

    def on_loop(self, function: Callable[[], object]) -> None:
        """Calls a function on the loop and waits for its end."""
        done = threading.Event()

        def call() -> None:
            function()
            done.set()

        self.context.loop.call_soon_threadsafe(call)
        assert done.wait(PATIENCE)

    def runs(self, number: int) -> None:
        def run() -> None:
            for _ in range(number):
                self.reader.run_ended()

        self.on_loop(run)

    def waits(self) -> bool:
        """Whether the loop waits for what comes."""
        return self.reader in self.ticker.active

    def close(self) -> None:
        self.context.close()
        os.close(self.receiver.fd)
        os.close(self.receiver.write_fd)
        assert self.context.node.wrong == []


@pytest.fixture
def reading() -> Iterator[Reading]:
    found = Reading()
    yield found
    found.close()


def test_the_loop_reads_what_comes_while_it_sleeps(reading: Reading) -> None:
    reading.runs(1)
    assert reading.receiver.lessee is reading.reader
    os.write(reading.receiver.write_fd, b"credit")
    eventually(lambda: reading.receiver.found == [b"credit"])
    assert reading.receiver.readers == {reading.context.loop._thread}


def test_it_reads_amid_the_runs_of_one_turn(reading: Reading) -> None:
    reading.runs(1 + RUNS_PER_READ)
    assert reading.receiver.reads == 1


def test_the_ticker_lets_others_read_when_no_run_ends(reading: Reading) -> None:
    reading.runs(1)
    reading.ticker.tick()
    reading.runs(1)
    reading.ticker.tick()
    assert reading.receiver.lessee is reading.reader
    reading.ticker.tick()
    assert reading.receiver.lessee is None
    eventually(lambda: not reading.waits())
    os.write(reading.receiver.write_fd, b"call")
    reading.on_loop(lambda: None)
    reading.on_loop(lambda: None)
    assert reading.receiver.found == []
    # The next run has it again.
    reading.runs(1)
    eventually(lambda: reading.receiver.found == [b"call"])


def test_a_run_that_ends_when_others_read_again_goes_on_waiting(reading: Reading) -> None:
    reading.runs(1)

    def both() -> None:
        reading.ticker.tick()
        reading.ticker.tick()
        assert reading.receiver.lessee is None
        reading.reader.run_ended()

    reading.on_loop(both)
    reading.on_loop(lambda: None)
    assert reading.waits()
    os.write(reading.receiver.write_fd, b"credit")
    eventually(lambda: reading.receiver.found == [b"credit"])


def test_it_reads_nothing_while_another_stream_does(reading: Reading) -> None:
    reading.receiver.lessee = other = object()
    reading.runs(1 + RUNS_PER_READ)
    assert reading.receiver.lessee is other
    assert not reading.waits()
    assert reading.receiver.reads == 0


def test_others_read_for_some_runs_after_a_request(reading: Reading) -> None:
    reading.runs(1)
    os.write(reading.receiver.write_fd, b"request")
    assert reading.receiver.work.wait(PATIENCE)
    eventually(lambda: not reading.waits())
    reading.runs(RUNS_AFTER_REQUEST)
    assert reading.receiver.lessee is None
    assert not reading.waits()
    reading.runs(1)
    assert reading.receiver.lessee is reading.reader
    assert reading.waits()


def test_the_end_of_the_input_is_read_once(reading: Reading) -> None:
    reading.runs(1)
    reading.receiver.write_fd, write_fd = os.dup(reading.receiver.fd), reading.receiver.write_fd
    os.close(write_fd)
    eventually(lambda: not reading.waits())
    reading.on_loop(lambda: None)
    assert reading.receiver.reads == 1


def test_what_reading_calls_the_loop_for_needs_no_wake_up(reading: Reading) -> None:
    happened = threading.Event()
    loop = reading.context.loop
    reading.runs(1)
    woken: list[object] = []
    assert loop._loop is not None
    loop._loop.call_soon_threadsafe = lambda *_, **__: woken.append(1)  # type: ignore[assignment]
    reading.receiver.then = lambda: loop.call_soon_threadsafe(happened.set)  # type: ignore[method-assign]
    os.write(reading.receiver.write_fd, b"credit")
    assert happened.wait(PATIENCE)
    assert woken == []
    del loop._loop.call_soon_threadsafe
