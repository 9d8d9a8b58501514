"""A value is what it was when it was yielded, whatever the generator does to it afterwards.

Hypothesis makes programs of *mutate*, *yield*, *pause* and *await* over objects that are nested
and shared. What a stream brings must be what a plain loop collects that copies at each `yield`.
"""

from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
import test_loop_runner
import test_thread_runner
from hypothesis import given, settings
from hypothesis import strategies as st

from erlang_port.etf.decoder import decode
from erlang_port.etf.encoder import Encoder, ways
from erlang_port.etf.formats import encode_json, encode_msgpack
from erlang_port.wire.frames import StreamOptions
from streams import StreamContext, options


@pytest.fixture(params=ways(), autouse=True, scope="module")
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    StreamContext.way = request.param
    yield
    StreamContext.way = None


@dataclass
class Row:
    number: int = 0
    tags: list[int] = field(default_factory=list)


class Cursor:
    """Says how it goes to Erlang by what it holds at that moment."""

    def __init__(self) -> None:
        self.number = 0
        self.is_open = True

    def __erlang__(self) -> Any:
        assert self.is_open
        return {"number": self.number}


class State:
    """The objects of one run of a program: changed at each step, and shared between them."""

    def __init__(self) -> None:
        self.list: list[Any] = [0]
        self.dict: dict[str, Any] = {"n": 0}
        self.flat: dict[str, Any] = {"n": 0, "none": None, "nan": math.nan}
        self.set: set[int] = {0}
        self.bytes = bytearray(b"0")
        self.row = Row()
        self.cursor = Cursor()
        self.number = 0

    def mutate(self) -> None:
        self.number += 1
        n = self.number
        self.list.append(n)
        if n % 3 == 0:
            self.list.clear()
        self.dict["n"] = n
        self.dict["more"] = [n]
        self.flat["n"] = n
        self.flat["none" if n % 2 else "more"] = n / 2 if n % 4 else None
        self.set.clear()
        self.set.add(n)
        self.bytes[:] = b"%d" % (n % 10)
        self.row.number = n
        self.row.tags.append(n)
        self.cursor.number = n

    def values(self) -> list[Any]:
        return [
            self.list,
            self.dict,
            self.flat,
            self.set,
            self.bytes,
            self.row,
            self.cursor,
            memoryview(self.bytes),
            [self.dict, self.dict],
            (self.list, self.number),
            (self.number, "text", None, 1.5),
            (self.number, Decimal(self.number), self.flat, math.inf),
            {self.number: self.number, "name": [self.flat]},
            {},
            (),
            {"deep": {"row": self.row, "bytes": self.bytes}},
            self.number,
            f"text {self.number}",
            None,
        ]


KINDS = len(State().values())
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("yield"), st.integers(0, KINDS - 1), st.integers(1, 40)),
        st.tuples(st.just("mutate"), st.just(0), st.integers(1, 2)),
        st.tuples(st.sampled_from(["pause", "await"]), st.just(0), st.just(1)),
    ),
    min_size=1,
    max_size=12,
)
CHOSEN = st.builds(
    options,
    window=st.sampled_from([1, 2, 7, 64, 1024]),
    window_bytes=st.sampled_from([1, 200, 4 << 20]),
    batch=st.sampled_from([-1, 1, 3, 256]),
    take=st.sampled_from([-1, -1, 20]),
    form=st.sampled_from([0, 0, 1, 2]),
)
Steps = list[tuple[str, int, int]]


def program(steps: Steps, state: State) -> Iterator[tuple[str, Any]]:
    """What a generator does: each value is changed as soon as it was yielded."""
    for what, which, times in steps:
        for _ in range(times):
            if what == "yield":
                yield "yield", state.values()[which]
                state.mutate()
            elif what == "mutate":
                state.mutate()
            else:
                yield what, None


def generator(steps: Steps) -> Iterator[Any]:
    state = State()
    try:
        for what, value in program(steps, state):
            if what == "yield":
                yield value
            else:
                time.sleep(0.0003)
    finally:
        state.mutate()
        state.cursor.is_open = False


async def async_generator(steps: Steps) -> AsyncIterator[Any]:
    state = State()
    try:
        for what, value in program(steps, state):
            if what == "yield":
                yield value
            elif what == "await":
                await asyncio.sleep(0)
            else:
                time.sleep(0.0003)
    finally:
        state.mutate()
        state.cursor.is_open = False


def as_term(value: Any) -> Any:
    return decode(Encoder().encode(value))


def expected(steps: Steps, chosen: StreamOptions) -> list[Any]:
    meaning = (as_term, encode_msgpack, encode_json)[chosen.format]
    found = []
    for what, value in program(steps, State()):
        if what == "yield":
            value = bytes(value) if isinstance(value, memoryview) else value
            found.append(meaning(copy.deepcopy(value)))
    return found if chosen.take < 0 else found[: chosen.take]


def run(stream: Any, chosen: StreamOptions) -> list[Any]:
    stream.start()
    while stream.node.terminal is None:
        if hasattr(stream, "tick"):
            stream.tick()
        stream.take()
        with stream.node.change:
            stream.node.change.wait(0.0002)
    assert stream.end() == "done"
    return stream.node.values  # type: ignore[no-any-return]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(steps=STEPS, chosen=CHOSEN)
def test_a_sync_stream_sends_what_was_yielded(steps: Steps, chosen: StreamOptions) -> None:
    found = run(test_thread_runner.Run(generator(steps), chosen), chosen)
    assert found == expected(steps, chosen)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(steps=STEPS, chosen=CHOSEN)
def test_an_async_stream_sends_what_was_yielded(steps: Steps, chosen: StreamOptions) -> None:
    found = run(test_loop_runner.Run(async_generator(steps), chosen), chosen)
    assert found == expected(steps, chosen)


class Stops:
    def __erlang__(self) -> Any:
        raise StopIteration


@pytest.mark.parametrize("before", [0, 3, 100])
def test_an_encoder_that_raises_stop_iteration_ends_no_stream_in_silence(before: int) -> None:
    stream = test_thread_runner.Run([*range(before), Stops(), 1]).start()
    tag, reason = stream.end()
    assert (tag, reason[0]) == ("error", "RuntimeError")
    assert stream.node.values == list(range(before))


@pytest.mark.parametrize("before", [0, 3, 100])
def test_a_generator_is_not_resumed_after_a_value_that_cannot_be_sent(before: int) -> None:
    resumed = []

    def values() -> Iterator[Any]:
        yield from range(before)
        yield [object()]
        resumed.append(True)

    stream = test_thread_runner.Run(values()).start()
    assert stream.end()[0] == "error"
    assert stream.node.values == list(range(before))
    assert resumed == []


def test_an_iterator_that_has_ended_is_asked_no_more() -> None:
    class Once:
        ends = 0
        number = 0

        def __iter__(self) -> Once:
            return self

        def __next__(self) -> int:
            if self.number == 100:
                self.ends += 1
                raise StopIteration
            self.number += 1
            return self.number

    once = Once()
    stream = test_thread_runner.Run(once).start()
    assert stream.end() == "done"
    assert once.ends == 1
