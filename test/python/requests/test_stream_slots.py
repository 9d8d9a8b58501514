"""Slots: how many streams run, who waits, and what a wait for the node gives to others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from erlang_port.context import Request
from erlang_port.requests.stream_slots import StreamSlots
from port import PATIENCE


class Threads:
    """A thread for each piece of work; what blocks is counted."""

    def __init__(self) -> None:
        self.started: list[threading.Thread] = []
        self.blocking = 0

    def submit(self, work: Callable[[], None]) -> None:
        self.started.append(threading.Thread(target=work))
        self.started[-1].start()

    def begin_blocking(self) -> None:
        self.blocking += 1

    def end_blocking(self) -> None:
        self.blocking -= 1


class Receiver:
    """Nobody leases it."""

    def release(self, _stream: object) -> None:
        """It is not leased."""


class Stream:
    """A stream, and its own runner: it runs until it may end."""

    is_cancelled = False
    has_slot = False

    def __init__(self, slots: StreamSlots, order: int) -> None:
        self.order = order
        self.runner = self
        self.slots = slots
        self.has_begun = threading.Event()
        self.steps: dict[str, threading.Event] = {}
        self.waits = threading.Event()
        self.goes_on = threading.Event()
        self.may_wait = threading.Event()
        self.may_go_on = threading.Event()
        self.may_end = threading.Event()

    def run(self) -> None:
        self.has_begun.set()
        if self.may_wait.is_set():
            take_back = self.slots.lend(cast("Request", self))
            self.waits.set()
            assert self.may_go_on.wait(PATIENCE)
            take_back()
            self.goes_on.set()
        assert self.may_end.wait(PATIENCE)

    def begins(self) -> bool:
        return self.has_begun.wait(PATIENCE)


@pytest.fixture
def threads() -> Any:
    made = Threads()
    yield made
    for thread in made.started:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def streams(threads: Threads, limit: int, count: int) -> tuple[StreamSlots, list[Any]]:
    slots = StreamSlots(limit, threads, Receiver())  # type: ignore[arg-type]
    return slots, [Stream(slots, order) for order in range(count)]


def running(slots: StreamSlots) -> tuple[int, int]:
    counts = slots.statistics()
    return counts["sync_streams"], counts["waiting_streams"]


def test_those_past_the_limit_wait_in_the_order_in_which_they_came(threads: Threads) -> None:
    slots, (first, second, third) = streams(threads, 1, 3)
    threads.submit(lambda: slots.run(first))
    assert first.begins()
    # Opened in another order than they came in.
    slots.run(third)
    slots.run(second)
    assert running(slots) == (1, 2)
    first.may_end.set()
    assert second.begins()
    assert not third.has_begun.is_set()
    second.may_end.set()
    assert third.begins()
    third.may_end.set()
    for thread in threads.started:
        thread.join(PATIENCE)
    assert running(slots) == (0, 0)


def test_nobody_starts_while_the_limit_is_exceeded(threads: Threads) -> None:
    """One gave its slot away, another took it, and the first one goes on."""
    slots, (first, second, third) = streams(threads, 1, 3)
    first.may_wait.set()
    threads.submit(lambda: slots.run(first))
    assert first.waits.wait(PATIENCE)
    assert threads.blocking == 1
    threads.submit(lambda: slots.run(second))
    assert second.begins()
    first.may_go_on.set()
    assert first.goes_on.wait(PATIENCE)
    assert running(slots) == (2, 0)
    slots.run(third)
    second.may_end.set()
    threads.started[1].join(PATIENCE)
    # One slot, and it is the first one's.
    assert running(slots) == (1, 1)
    assert not third.has_begun.is_set()
    first.may_end.set()
    assert third.begins()
    third.may_end.set()


def test_one_that_is_cancelled_while_it_waits_ends_without_a_slot(threads: Threads) -> None:
    slots, (first, second) = streams(threads, 1, 2)
    threads.submit(lambda: slots.run(first))
    assert first.begins()
    slots.run(second)
    second.is_cancelled = True
    work = slots.withdraw(second)
    assert work is not None
    assert slots.withdraw(second) is None
    second.may_end.set()
    work()
    assert not second.has_slot
    assert running(slots) == (1, 0)
    first.may_end.set()
