"""Sync streams, with a clock that ticks when the test says so."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlang_port.batching import FAST_ITEMS
from erlang_port.requests.batch_collector import BatchCollector
from erlang_port.requests.thread_runner import FIRST_RUN, ThreadRunner
from erlang_port.wire.frames import StreamOptions
from port import PATIENCE
from streams import NodeClient, StreamContext, make_stream, options


class Run:
    """A stream on its thread."""

    def __init__(self, iterable: Iterable[Any], chosen: StreamOptions | None = None) -> None:
        chosen = chosen or options()
        self.node = NodeClient(chosen)
        self.context = StreamContext(self.node)
        self.stream = make_stream(self.context, chosen)
        self.stream.runner = self.runner = ThreadRunner(self.stream)
        self.runner.iterator = iter(iterable)
        self.thread = threading.Thread(target=self.runner.run)

    def start(self) -> Run:
        self.thread.start()
        return self

    def tick(self) -> None:
        """Two ticks: a run is sent by the second one that finds it."""
        self.context.ticker.tick()
        self.context.ticker.tick()

    def take(self, count: int = 1_000_000) -> None:
        self.stream.credit(*self.node.take(count))

    def end(self) -> Any:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        assert self.node.wrong == []
        return self.node.terminal


class Place:
    """Where a generator stays until it is let on."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.may_go = threading.Event()

    def stay(self) -> None:
        self.is_reached.set()
        assert self.may_go.wait(PATIENCE)

    def reach(self) -> None:
        assert self.is_reached.wait(PATIENCE)


def then_stay(values: Iterable[Any], place: Place, rest: Iterable[Any] = ()) -> Iterator[Any]:
    yield from values
    place.stay()
    yield from rest


def test_a_value_before_a_pause_leaves_before_the_generator_goes_on() -> None:
    place = Place()
    run = Run(then_stay([1], place, [2])).start()
    place.reach()
    assert run.node.values == [1]
    place.may_go.set()
    assert run.end() == "done"
    assert run.node.values == [1, 2]


def test_fast_values_share_frames() -> None:
    run = Run(range(1000)).start()
    assert run.end() == "done"
    assert run.node.values == list(range(1000))
    assert len(run.node.out) < 500


@pytest.mark.parametrize("count", range(FAST_ITEMS, FAST_ITEMS + 2 * FIRST_RUN, 3))
def test_the_clock_sends_what_a_fast_generator_left_before_it_paused(count: int) -> None:
    place = Place()
    run = Run(then_stay(range(count), place, [-1])).start()
    place.reach()
    run.tick()
    assert run.node.values == list(range(count))
    place.may_go.set()
    assert run.end() == "done"
    assert run.node.values == [*range(count), -1]


def test_the_first_tick_of_a_run_leaves_it_alone() -> None:
    """A run that fills faster than the clock ticks is never cut."""
    place = Place()
    run = Run(then_stay(range(100), place)).start()
    place.reach()
    before = len(run.node.values)
    run.context.ticker.tick()
    assert len(run.node.values) == before
    run.context.ticker.tick()
    assert run.node.values == list(range(100))
    place.may_go.set()
    assert run.end() == "done"


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 8, 100])
def test_a_window_is_filled_to_the_value_and_credit_opens_it(window: int) -> None:
    run = Run(range(200), options(window=window)).start()
    run.node.wait(lambda: len(run.node.values) == window)
    while run.thread.is_alive():
        run.take(1)
    assert run.end() == "done"
    assert run.node.values == list(range(200))


def test_what_does_not_fit_keeps_its_place() -> None:
    # Small ones make it fast, large ones do not fit.
    small, large = [str(i) for i in range(20)], ["x" * 600, "y" * 600]
    place = Place()
    run = Run(
        then_stay([*small, *large], place, ["behind"]), options(window=100, window_bytes=4000)
    ).start()
    while not place.is_reached.wait(0.001):
        run.tick()
        run.take()
    run.tick()
    run.take()
    place.may_go.set()
    while run.thread.is_alive():
        run.tick()
        run.take()
        run.thread.join(0.001)
    assert run.end() == "done"
    assert run.node.values == [*small, *large, "behind"]


def test_a_tick_that_found_the_window_full_does_not_try_again_before_there_is_credit() -> None:
    run = Run(iter(()), options(window_bytes=1000)).start()
    assert run.end() == "done"
    # In the midst of a run, with more out than leaves room for what is pending.
    run.stream.runner = run.runner
    run.node.terminal = None
    run.stream.window.send(1, 900)
    run.runner._collector = collector = BatchCollector(run.stream.fixed_types, run.stream.hold)
    collector.pending.append("x" * 500)
    run.context.ticker.add(run.runner)
    run.tick()
    tried = run.context.encodings
    assert run.node.waiting == 1
    for _ in range(50):
        run.tick()
    assert run.context.encodings == tried
    run.stream.credit(1, 900, -1)
    run.tick()
    assert run.node.values == ["x" * 500]


def test_nothing_that_was_yielded_after_a_value_that_is_no_term_is_sent() -> None:
    # Text cannot change, so it is encoded late: here by the ticker.
    place = Place()
    run = Run(then_stay([*range(20), "\ud800"], place, range(20, 40))).start()
    place.reach()
    run.tick()
    assert isinstance(run.runner._failure, UnicodeEncodeError)
    place.may_go.set()
    assert run.end()[0] == "error"
    assert run.node.values == list(range(20))


def test_large_values_are_not_hoarded() -> None:
    pulled = 0

    def generator() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(300):
            pulled += 1
            yield b"v" * 100_000

    run = Run(generator(), options(window_bytes=1_000_000)).start()
    run.node.wait(lambda: run.node.waiting == 1)
    assert pulled <= len(run.node.values) + 1
    while run.thread.is_alive():
        run.take(3)
        run.thread.join(0.0002)
        with run.node.change:
            assert pulled <= len(run.node.values) + FIRST_RUN
    assert run.end() == "done"
    assert len(run.node.values) == 300


@pytest.mark.parametrize("count", [1, 5, 100])
def test_take_sends_the_last_value_before_it_closes(count: int) -> None:
    sent_at_close = []

    def generator() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            sent_at_close.append(len(run.node.values))

    run = Run(generator(), options(take=count))
    run.start()
    assert run.end() == "done"
    assert run.node.values == list(range(count))
    assert sent_at_close == [count]


@pytest.mark.parametrize("window", [1, 100])
def test_a_cancel_ends_a_stream_that_waits_for_the_window(window: int) -> None:
    closed = threading.Event()

    def generator() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    run = Run(generator(), options(window=window)).start()
    run.node.wait(lambda: len(run.node.values) == window)
    run.stream.cancel()
    assert run.end()[0] == "error"
    assert closed.is_set()


def test_a_stream_that_has_ended_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        run = Run(iter(range(10))).start()
        assert run.end() == "done"
        runner = weakref.ref(run.runner)
        run.stream.credit(10, 100, -1)
        run.stream.cancel()
        del run
        assert runner() is None
    finally:
        gc.enable()


def test_an_exception_comes_after_the_values_before_it() -> None:
    def generator() -> Iterator[int]:
        yield from range(50)
        raise KeyError("key")

    run = Run(generator(), options(window=7)).start()
    while run.thread.is_alive():
        run.take(1)
        run.thread.join(0.0002)
    assert run.end() == ("error", ("KeyError", "'key'"))
    assert run.node.values == list(range(50))


def test_credit_that_comes_while_the_ticker_finds_the_window_full_is_not_lost() -> None:
    run = Run(iter(()), options(window_bytes=1000)).start()
    assert run.end() == "done"
    run.stream.runner = run.runner
    run.node.terminal = None
    run.stream.window.send(1, 900)
    run.runner._collector = collector = BatchCollector(run.stream.fixed_types, run.stream.hold)
    collector.pending.append("x" * 500)
    run.context.ticker.add(run.runner)
    fits = run.stream.fits

    def fits_just_before_the_credit(size: int) -> bool:
        found = fits(size)
        run.stream.credit(1, 900, -1)
        return found

    run.stream.fits = fits_just_before_the_credit  # type: ignore[method-assign]
    run.tick()
    run.tick()
    assert run.node.values == ["x" * 500]


CHOSEN = st.builds(
    options,
    window=st.integers(1, 9) | st.just(1024),
    window_bytes=st.integers(1, 1000) | st.just(4 << 20),
    batch=st.sampled_from([-1, 1, 3, 100]),
    take=st.sampled_from([-1, 1, 7, 40]),
    demand=st.sampled_from([-1, 0, 5]),
)
SIZES = st.lists(st.sampled_from([0, 1, 10, 200, 900, 3000]), max_size=60)
#: How many frames an owner takes at a time.
TAKES = st.lists(st.integers(0, 4), min_size=1, max_size=5)


def expected(values: list[str], chosen: StreamOptions) -> list[str]:
    return values if chosen.take < 0 else values[: chosen.take]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(sizes=SIZES, chosen=CHOSEN, takes=TAKES)
def test_whatever_the_options_all_values_come_and_never_too_many_at_once(
    sizes: list[int], chosen: StreamOptions, takes: list[int]
) -> None:
    values = [f"{i} " + "v" * size for i, size in enumerate(sizes)]
    run = Run(iter(values), chosen).start()
    turn = 0
    while run.thread.is_alive():
        turn += 1
        if 0 <= run.node.demand <= len(run.node.values):
            run.node.demand += 3
        run.take(takes[turn % len(takes)] or (turn % 3 == 0))
        run.context.ticker.tick()
        run.thread.join(0.0002)
    assert run.end() == "done"
    assert run.node.values == expected(values, chosen)
