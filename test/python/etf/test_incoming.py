"""erlang.Channel, without a node: over the real port in py_channel_SUITE."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang.testing import pid
from erlang_port.errors import ErlangError
from erlang_port.etf.decoder import decode
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.incoming import Channel
from erlang_port.etf.terms import Atom


class Frame:
    def __init__(self, *values: Any, error: Exception | None = None) -> None:
        self.values = list(values)
        self.count = len(values)
        self.error = error

    def decode(self) -> list[Any]:
        if self.error is not None:
            raise self.error
        return self.values


class FakeLink:
    """Keeps what is said, and lets `when_waiting` happen when a reader waits."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.when_waiting: Callable[[], None] = lambda: pytest.fail("it waits")

    def waiter(self) -> tuple[Callable[[], object], Callable[[], object]]:
        lock = threading.Lock()
        lock.acquire()

        def wait() -> None:
            self.when_waiting()
            assert lock.acquire(timeout=10)

        return lock.release, wait

    def taken(self, count: int) -> None:
        self.said.append(count)

    def closed(self) -> None:
        self.said.append("closed")


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def channel(link: FakeLink) -> Channel:
    return Channel(pid(), 5, link)


def test_the_values_of_all_frames_in_order(channel: Channel) -> None:
    channel.put(Frame(1, 2, 3), 4)
    channel.put(Frame(4), 4)
    channel.end(None)
    assert list(channel) == [1, 2, 3, 4]
    assert list(channel) == []


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(1, 20))
def test_a_frame_is_taken_with_its_last_value(sizes: list[int], quarter: int) -> None:
    link = FakeLink()
    channel = Channel(pid(), 5, link)
    for size in sizes:
        channel.put(Frame(*range(size)), quarter)
    taken = 0
    for size in sizes:
        for number in range(size):
            assert next(channel) == number
            # Nothing is said of values that are still to be taken.
            taken += 1
            assert all(said <= taken for said in link.said)
        said = link.said[-1] if link.said else 0
        assert taken - said < quarter
    link.when_waiting = lambda: channel.end(None)
    with pytest.raises(StopIteration):
        next(channel)
    assert sum(sizes) == (link.said[-1] if link.said else 0)
    assert link.said == sorted(set(link.said))


def test_it_waits_and_has_said_what_it_has_taken_by_then(channel: Channel, link: FakeLink) -> None:
    channel.put(Frame(1), 100)
    assert next(channel) == 1
    assert link.said == []

    def more() -> None:
        assert link.said == [1]
        channel.put(Frame(2), 100)

    link.when_waiting = more
    assert next(channel) == 2


def test_what_was_taken_is_said_before_the_last_frame(channel: Channel, link: FakeLink) -> None:
    """So the next one is there in time."""
    for number in range(3):
        channel.put(Frame(number, number), 100)
    assert [next(channel) for _ in range(4)] == [0, 0, 1, 1]
    assert link.said == []
    assert next(channel) == 2
    assert link.said == [4]


def test_iterators_share_the_values(channel: Channel) -> None:
    channel.put(Frame(*range(5)), 9)
    channel.put(Frame(5), 9)
    channel.put(Frame(6), 9)
    one, other = iter(channel), iter(channel)
    assert [next(one), next(other), next(channel), next(one)] == [0, 1, 2, 3]
    for value in channel:
        assert value == 4
        break
    assert [next(other), next(one)] == [5, 6]
    channel.end(None)
    assert list(one) == list(other) == []


def test_an_iterator_goes_on_behind_an_error(channel: Channel) -> None:
    channel.put(Frame(1), 9)
    channel.put(Frame(2, error=ValueError("bytes")), 9)
    channel.put(Frame(3), 9)
    channel.end(ErlangError("exit", "oh"))
    values = iter(channel)
    assert next(values) == 1
    with pytest.raises(ValueError, match="bytes"):
        next(values)
    assert next(values) == 3
    with pytest.raises(ErlangError):
        next(values)
    assert list(values) == []


def test_an_iterator_ends_when_it_is_closed(channel: Channel, link: FakeLink) -> None:
    channel.put(Frame(1, 2, 3), 9)
    channel.put(Frame(4), 9)
    found = []
    for value in channel:
        found.append(value)
        channel.close()
    assert found == [1]
    assert link.said == ["closed"]


def test_an_error_comes_once_behind_the_values(channel: Channel) -> None:
    channel.put(Frame(1), 1)
    channel.end(ErlangError("exit", "oh"))
    assert next(channel) == 1
    with pytest.raises(ErlangError, match="oh"):
        next(channel)
    assert list(channel) == []


def test_a_frame_that_cannot_be_read_is_taken(channel: Channel, link: FakeLink) -> None:
    channel.put(Frame(1, 2, error=ValueError("bytes")), 1)
    channel.put(Frame(3), 1)
    with pytest.raises(ValueError, match="bytes"):
        next(channel)
    assert next(channel) == 3
    assert link.said == [2, 3]


def test_it_is_closed_once(channel: Channel, link: FakeLink) -> None:
    channel.put(Frame(1, 2), 9)
    with channel as same:
        assert next(same) == 1
    channel.close()
    channel.put(Frame(3), 1)
    channel.end(ErlangError("exit", "late"))
    assert list(channel) == []
    assert link.said == ["closed"]


def test_the_end_of_the_object_closes_it(link: FakeLink) -> None:
    channel = Channel(pid(), 5, link)
    channel.put(Frame(1), 9)
    del channel
    assert link.said == ["closed"]


@pytest.mark.parametrize("take", [next, list])
def test_an_error_does_not_keep_the_object(take: Callable[[Channel], Any], link: FakeLink) -> None:
    gc.disable()
    try:
        channel = Channel(pid(), 5, link)
        there = weakref.ref(channel)
        channel.end(ErlangError("exit", "oh"))
        with contextlib.suppress(ErlangError):
            take(channel)
        del channel
        assert there() is None
    finally:
        gc.enable()


def test_what_has_ended_has_nobody_to_tell(link: FakeLink) -> None:
    channel = Channel(pid(), 5, link)
    channel.end(None)
    channel.close()
    del channel
    assert link.said == []


def test_it_ends_for_a_reader_that_waits(channel: Channel, link: FakeLink) -> None:
    link.when_waiting = channel.close
    assert list(channel) == []


def test_tasks_wait_for_it(channel: Channel) -> None:
    async def read() -> list[Any]:
        return [value async for value in channel]

    async def main() -> list[Any]:
        readers = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(100):
            thread = threading.Thread(target=channel.put, args=(Frame(number), 1))
            thread.start()
            await asyncio.to_thread(thread.join)
        channel.end(None)
        return [value for found in await asyncio.gather(*readers) for value in found]

    assert sorted(asyncio.run(main())) == [*range(100)]


def test_threads_share_it(channel: Channel) -> None:
    found: list[Any] = []
    readers = [threading.Thread(target=lambda: found.extend(channel)) for _ in range(4)]
    channel._link.waiter = _lock_waiter  # type: ignore[method-assign]
    for reader in readers:
        reader.start()
    for number in range(0, 3000, 3):
        channel.put(Frame(number, number + 1, number + 2), 5)
    channel.end(None)
    for reader in readers:
        reader.join()
    assert sorted(found) == [*range(3000)]


def _lock_waiter() -> tuple[Callable[[], object], Callable[[], object]]:
    lock = threading.Lock()
    lock.acquire()
    return lock.release, lambda: lock.acquire(timeout=10)


def test_it_goes_back_as_the_channel_that_it_is() -> None:
    """Outside of a worker it is the pair of pairs that it is in Erlang."""
    term = (Atom("py_channel"), (pid(7), 5))
    encoded = Encoder().encode(term)
    assert decode(encoded) == term
    assert Encoder().encode(Channel(pid(7), 5, FakeLink())) == encoded
    assert (
        repr(Channel(pid(7), 5, FakeLink())) == "<erlang.Channel <erlang.Pid 7.0 of nonode@nohost>>"
    )
