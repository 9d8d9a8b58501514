"""Async streams, on a real event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_thread_runner import CHOSEN, SIZES, TAKES, expected

from erlang_port.requests.loop_reader import LoopReader
from erlang_port.requests.loop_runner import LoopRunner
from erlang_port.requests.stream import Stream
from erlang_port.wire.frames import StreamOptions
from streams import NodeClient, StreamContext, make_stream, options


class Run:
    """A stream on a loop of its own."""

    def __init__(self, source: Any, chosen: StreamOptions | None = None) -> None:
        chosen = chosen or options()
        self.node = NodeClient(chosen)
        self.context = StreamContext(self.node)
        self.stream = make_stream(self.context, chosen)
        reader = LoopReader(self.context)  # type: ignore[arg-type]
        runner = LoopRunner(self.stream, source, None, self._not_async, reader)
        self.stream.runner = runner
        # The loop starts by itself; nothing of the stream runs before `start`.
        self._may_start = threading.Event()
        self.context.loop.call_soon_threadsafe(self._may_start.wait)
        self.context.loop.call_soon_threadsafe(runner.start)

    def start(self) -> Run:
        self._may_start.set()
        return self

    def _not_async(self, _stream: Stream, value: Any) -> None:
        self.node.wrong.append(f"not async: {value!r}")

    def take(self, count: int = 1_000_000) -> None:
        self.stream.credit(*self.node.take(count))

    def end(self) -> Any:
        self.node.wait(lambda: self.node.terminal is not None)
        self.context.close()
        assert self.node.wrong == []
        return self.node.terminal


async def count(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


async def reach(event: threading.Event) -> None:
    """Waits without holding the loop."""
    while not event.is_set():
        await asyncio.sleep(0.001)


def test_all_values_come_and_fast_ones_share_frames() -> None:
    run = Run(count(1000)).start()
    assert run.end() == "done"
    assert run.node.values == list(range(1000))
    assert len(run.node.out) < 100


@pytest.mark.parametrize("values", [1, 2, 3, 50, 300])
def test_what_was_yielded_leaves_when_the_generator_awaits(values: int) -> None:
    may_go = threading.Event()

    async def generator() -> AsyncIterator[int]:
        for i in range(values):
            yield i
        await reach(may_go)
        yield -1

    run = Run(generator()).start()
    run.node.wait(lambda: len(run.node.values) == values)
    may_go.set()
    assert run.end() == "done"
    assert run.node.values == [*range(values), -1]


def test_what_did_not_fit_leaves_with_the_credit_while_the_generator_awaits() -> None:
    may_go = threading.Event()

    async def generator() -> AsyncIterator[str]:
        yield "a" * 300
        yield "b" * 900
        await reach(may_go)

    run = Run(generator(), options(window_bytes=1000)).start()
    run.node.wait(lambda: run.node.waiting == 1)
    assert [value[0] for value in run.node.values] == ["a"]
    run.take()
    run.node.wait(lambda: len(run.node.values) == 2)
    may_go.set()
    assert run.end() == "done"


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 100])
def test_a_window_is_filled_to_the_value(window: int) -> None:
    run = Run(count(300), options(window=window)).start()
    run.node.wait(lambda: len(run.node.values) == window)
    while run.node.terminal is None:
        run.take(1)
    assert run.end() == "done"
    assert run.node.values == list(range(300))


def test_large_values_are_not_hoarded() -> None:
    pulled = 0

    async def generator() -> AsyncIterator[bytes]:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield b"v" * 100_000

    run = Run(generator(), options(window_bytes=1_000_000)).start()
    run.node.wait(lambda: run.node.waiting == 1)
    assert pulled <= len(run.node.values) + 1
    while run.node.terminal is None:
        run.take(2)
    assert run.end() == "done"


def test_nothing_that_was_yielded_after_a_value_that_is_no_term_is_sent() -> None:
    async def generator() -> AsyncIterator[Any]:
        for i in range(20):
            yield i
        yield object()
        # The failure is raised here, and it takes no notice.
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            pass
        yield 20

    run = Run(generator()).start()
    assert run.end()[1][0] == "TypeError"
    assert run.node.values == list(range(20))


def test_a_cancel_before_the_first_step_ends_it() -> None:
    run = Run(count(3))
    run.stream.cancel()
    # The loop finds both queued when it starts.
    run.start()
    assert run.end()[0] == "error"
    assert run.node.values == []


def test_a_coroutine_that_is_cancelled_before_it_began_is_closed() -> None:
    async def source() -> AsyncIterator[int]:
        return count(3)

    coroutine = source()
    run = Run(coroutine)
    run.stream.is_cancelled = True
    run.start()
    assert run.end()[0] == "error"
    # Otherwise Python would warn that it was never awaited.
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)


@pytest.mark.parametrize("pause", [None, 0, 0.0005])
@pytest.mark.parametrize("window", [1, 1 << 40])
@pytest.mark.parametrize("progress", [0, 50, 100])
def test_a_cancel_lets_the_finally_blocks_run_to_their_end(
    pause: float | None, window: int, progress: int
) -> None:
    closed = threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            for i in range(10**9):
                yield i
                if pause is not None:
                    await asyncio.sleep(pause)
        finally:
            await asyncio.sleep(0.005)
            closed.set()

    # What is out is never taken, so that it need not be counted either.
    run = Run(generator(), options(window=window, window_bytes=1 << 40)).start()
    run.node.wait(lambda: len(run.node.values) > (0 if window == 1 else progress))
    run.stream.cancel()
    assert run.end()[0] == "error"
    assert closed.is_set()


def test_one_that_takes_no_notice_of_a_cancel_is_closed() -> None:
    closed = threading.Event()

    async def generator() -> AsyncIterator[int]:
        try:
            while True:
                try:
                    await asyncio.sleep(0.001)
                except asyncio.CancelledError:
                    pass
                yield 1
        finally:
            closed.set()

    run = Run(generator()).start()
    run.node.wait(lambda: len(run.node.values) > 0)
    run.stream.cancel()
    assert run.end()[0] == "error"
    assert closed.is_set()


@pytest.mark.parametrize("take", [1, 5, 100])
def test_take_sends_the_last_value_before_it_closes(take: int) -> None:
    sent_at_close = []

    async def generator() -> AsyncIterator[int]:
        try:
            for i in range(10**9):
                yield i
        finally:
            sent_at_close.append(len(run.node.values))

    run = Run(generator(), options(take=take))
    run.start()
    assert run.end() == "done"
    assert run.node.values == list(range(take))
    assert sent_at_close == [take]


def _pauses() -> Iterator[bool]:
    while True:
        yield from (False, False, True, False, True, True)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(sizes=SIZES, chosen=CHOSEN, takes=TAKES, awaits=st.booleans())
def test_whatever_the_options_all_values_come_and_never_too_many_at_once(
    sizes: list[int], chosen: StreamOptions, takes: list[int], awaits: bool
) -> None:
    values = [f"{i} " + "v" * size for i, size in enumerate(sizes)]

    async def generator() -> AsyncIterator[str]:
        for value, pause in zip(values, _pauses(), strict=False):
            yield value
            if awaits and pause:
                await asyncio.sleep(0)

    run = Run(generator(), chosen).start()
    turn = 0
    while run.node.terminal is None:
        turn += 1
        if 0 <= run.node.demand <= len(run.node.values):
            run.node.demand += 3
        run.take(takes[turn % len(takes)] or (turn % 3 == 0))
        with run.node.change:
            run.node.change.wait(0.0002)
    assert run.end() == "done"
    assert run.node.values == expected(values, chosen)
