"""The clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from erlang_port.runtime.ticker import Ticker
from port import PATIENCE, eventually


class Counter:
    """Counts its ticks."""

    def __init__(self) -> None:
        self.ticks = 0
        self.threads: set[int] = set()

    def tick(self) -> None:
        self.ticks += 1
        self.threads.add(threading.get_ident())


@pytest.fixture
def ticker() -> Iterator[Ticker]:
    failures: list[BaseException] = []
    made = Ticker(failures.append)
    made.start()
    yield made
    made.close()
    assert failures == []


def test_what_is_hot_is_ticked_until_it_is_taken_away(ticker: Ticker) -> None:
    counter, other = Counter(), Counter()
    ticker.add(counter)
    eventually(lambda: counter.ticks > 5)
    ticker.discard(counter)
    ticker.add(other)
    # A tick that was under way may still have been counted.
    eventually(lambda: other.ticks > 1)
    after = counter.ticks
    eventually(lambda: other.ticks > 20)
    assert counter.ticks == after
    assert len(counter.threads) == 1


def test_it_sleeps_when_nothing_is_hot_and_wakes_for_what_comes(ticker: Ticker) -> None:
    for _ in range(3):
        eventually(lambda: ticker._asleep)
        counter = Counter()
        ticker.add(counter)
        eventually(lambda counter=counter: counter.ticks > 0)
        ticker.discard(counter)


def test_to_add_and_to_discard_twice_does_no_harm(ticker: Ticker) -> None:
    counter = Counter()
    ticker.add(counter)
    ticker.add(counter)
    ticker.discard(counter)
    ticker.discard(counter)
    eventually(lambda: ticker._asleep)


def test_deadlines_come_in_their_order_and_not_too_early(ticker: Ticker) -> None:
    begin = time.monotonic()
    came: list[tuple[str, float]] = []
    done = threading.Event()

    def comes(name: str) -> None:
        came.append((name, time.monotonic() - begin))

    for name, seconds in (("last", 0.06), ("first", 0.01), ("middle", 0.03)):
        ticker.call_later(seconds, partial(comes, name))
    ticker.call_later(0.06, done.set)
    assert done.wait(PATIENCE)
    assert [name for name, _ in came] == ["first", "middle", "last"]
    assert all(at >= due for (_, at), due in zip(came, (0.01, 0.03, 0.06), strict=True))


def test_a_deadline_of_now_comes_at_once_also_from_a_deadline(ticker: Ticker) -> None:
    done = threading.Event()
    eventually(lambda: ticker._asleep)
    ticker.call_later(0, lambda: ticker.call_later(0, done.set))
    assert done.wait(PATIENCE)


def test_things_come_and_go_from_many_threads(ticker: Ticker) -> None:
    def work() -> None:
        for _ in range(300):
            counter = Counter()
            ticker.add(counter)
            ticker.discard(counter)

    # Enough that it copies what there is while that changes, where threads run at the same time.
    for counter in [Counter() for _ in range(200)]:
        ticker.add(counter)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = threading.Event()
    ticker.call_later(0, done.set)
    assert done.wait(PATIENCE)
