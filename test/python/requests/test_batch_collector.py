"""Batches of values: collected in C, ended from outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from erlang_port.requests.batch_collector import BatchCollector
from port import PATIENCE, eventually

FIXED: frozenset[type] = frozenset((int, str))


def collector(hold: Any = lambda value: [repr(value)]) -> BatchCollector:
    return BatchCollector(FIXED, hold)


def test_a_batch_ends_after_its_length_and_no_value_is_lost() -> None:
    made = collector()
    numbers = iter(range(10))
    for expected in ([0, 1, 2, 3], [4, 5, 6, 7], [8, 9]):
        made.begin(4, 1000)
        made.collect(numbers)
        assert made.take() == expected
        assert not made.was_ended()


@pytest.mark.parametrize("values", [range(100), [[i] for i in range(100)], [1, *"abc", (1,)] * 20])
def test_a_batch_that_is_ended_takes_no_more_than_the_next_value(values: Any) -> None:
    """The generator ends it, as another thread would while it runs."""
    made = collector()

    def generator() -> Iterator[Any]:
        for number, value in enumerate(values):
            if number == 7:
                made.end()
            yield value

    source = generator()
    made.begin(1000, 1000)
    made.collect(source)
    assert made.was_ended()
    held = made.take()
    assert len(held) == 8
    # Where it stopped it goes on.
    made.begin(1000, 1000)
    made.collect(source)
    assert len(made.take()) == len(list(values)) - 8


def test_what_is_put_back_comes_first_in_its_order() -> None:
    made = collector()

    def generator() -> Iterator[int]:
        yield from (1, 2, 3)
        taken = made.take_while_collecting()
        assert taken == [1, 2, 3]
        yield 4
        made.put_back(taken[1:])
        yield 5

    made.begin(10, 1000)
    made.collect(generator())
    assert made.take() == [2, 3, 4, 5]


def test_what_can_change_is_held_before_the_generator_goes_on() -> None:
    made = collector(lambda value: [list(value)])
    row: list[int] = []

    def generator() -> Iterator[Any]:
        yield 1
        for number in range(3):
            row.append(number)
            yield row

    made.begin(10, 1000)
    made.collect(generator())
    assert made.take() == [1, [[0]], [[0, 1]], [[0, 1, 2]]]


@pytest.mark.parametrize("values", [(1, 2), ([1], [2])])
def test_what_is_pending_is_there_while_the_generator_computes(values: Any) -> None:
    """Also where threads run at the same time, and a deque has a lock of its own."""
    made = collector(list)
    taken = threading.Event()

    def generator() -> Iterator[Any]:
        yield values[0]
        while not taken.is_set():
            pass
        yield values[1]

    made.begin(1000, 1000)
    thread = threading.Thread(target=made.collect, args=(generator(),), daemon=True)
    thread.start()
    eventually(lambda: len(made.pending) == 1)
    found: list[Any] = []
    taker = threading.Thread(target=lambda: found.extend(made.take_while_collecting()), daemon=True)
    taker.start()
    eventually(lambda: found == [values[0]])
    taken.set()
    thread.join(PATIENCE)
    assert made.take() == [values[1]]
