"""Interrupts hit user code and nothing else."""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import threading
import time
import weakref
from collections.abc import Coroutine, Generator, Iterator
from typing import Any

import pytest

from erlang_port.errors import Cancelled
from erlang_port.runtime.interrupt import InterruptibleCoroutine, InterruptibleRegion, OneShotEvent

REQUEST = object()

#: A storm lasts until that many interrupts were raised, and that many seconds at the most: a busy
#: machine may have raised fewer by then.
ENOUGH = 100
PATIENCE = 20.0


class Storm:
    """Interrupts a request as often as it can, from two threads."""

    def __init__(self, region: InterruptibleRegion, request: object = REQUEST) -> None:
        self.region = region
        self.request = request
        self.count = 0
        self._is_over = False
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def _run(self) -> None:
        chance = random.Random(1)
        while not self._is_over:
            self.count += self.region.interrupt(self.request)
            if chance.random() < 0.2:
                time.sleep(0)

    def __enter__(self) -> Storm:
        # Threads take turns as often as can be.
        sys.setswitchinterval(1e-6)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()
        sys.setswitchinterval(0.005)


def test_user_code_that_spins_is_broken_off() -> None:
    region = InterruptibleRegion()

    def spin() -> None:
        while True:
            pass

    with Storm(region), pytest.raises(Cancelled):
        region.run(REQUEST, spin)


def test_the_interrupt_of_another_request_does_nothing() -> None:
    region = InterruptibleRegion()
    with Storm(region, object()) as storm:
        assert region.run(REQUEST, sum, range(100_000)) == sum(range(100_000))
    assert storm.count == 0


def test_a_storm_of_interrupts_finds_only_user_code() -> None:
    """Behind each region lies work that must be whole: it never is broken off."""
    region = InterruptibleRegion()
    begun = ended = interrupted = 0

    def user() -> int:
        return sum(number for number in range(50))

    def own_work() -> None:
        nonlocal begun, ended
        begun += 1
        for _ in range(20):
            str(begun)
        ended += 1

    with Storm(region) as storm:
        deadline = time.monotonic() + PATIENCE
        while interrupted < ENOUGH and time.monotonic() < deadline:
            try:
                region.run(REQUEST, user)
            except Cancelled:
                interrupted += 1
            own_work()
            assert begun == ended
    assert interrupted > 0
    assert storm.count >= interrupted


def test_a_storm_on_the_open_form_of_a_span() -> None:
    """The same for the form that loops use in place of `run`."""
    region = InterruptibleRegion()
    region.request = REQUEST
    interrupted = whole = 0

    def numbers() -> Iterator[int]:
        while True:
            yield from range(10)

    with Storm(region):
        deadline = time.monotonic() + PATIENCE
        iterator = numbers()
        while interrupted < ENOUGH and time.monotonic() < deadline:
            try:
                try:
                    region.enter()
                    next(iterator)
                finally:
                    region.leave()
                    if region.is_set:
                        region.clear_pending()
            except Cancelled:
                region.reacquire()
                interrupted += 1
                iterator = numbers()
            except StopIteration:
                iterator = numbers()
            whole += 1
    assert interrupted > 0
    assert whole > interrupted


def test_what_is_shielded_is_whole() -> None:
    region = InterruptibleRegion()
    begun = ended = interrupted = 0

    def own_work() -> None:
        nonlocal begun, ended
        begun += 1
        for _ in range(20):
            str(begun)
        ended += 1

    def user() -> None:
        for _ in range(10):
            region.shielded(own_work)
            # Shields within shields, as a finalizer may need them.
            region.shielded(region.shielded, own_work)

    with Storm(region):
        deadline = time.monotonic() + PATIENCE
        while interrupted < ENOUGH and time.monotonic() < deadline:
            try:
                region.run(REQUEST, user)
            except Cancelled:
                interrupted += 1
            assert begun == ended
    assert interrupted > 0


def test_two_threads_and_their_storms_do_not_mix() -> None:
    """The interpreter has one flag for the exceptions of all threads."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            test_a_storm_of_interrupts_finds_only_user_code()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_wait_is_broken_off() -> None:
    region = InterruptibleRegion()
    event = OneShotEvent()

    def interrupt() -> None:
        while region._event is None:
            time.sleep(0)
        assert region.interrupt(REQUEST)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Cancelled):
        region.run(REQUEST, lambda: region.shielded(region.wait, event))
    thread.join()
    assert event.is_interrupt


class Turn:
    """What lets others have a turn, and warns of nothing when it is not awaited."""

    def __await__(self) -> Generator[None, None, None]:
        yield


def test_tasks_are_interrupted_and_the_loop_is_not() -> None:
    """Every task ends once, and the loop runs all that it was given."""
    ended: list[tuple[int, bool]] = []
    ticks = number = 0

    async def user(number: int) -> int:
        for _ in range(5):
            sum(range(200))
            await Turn()
        return number

    async def main() -> None:
        nonlocal number, ticks
        region = InterruptibleRegion()
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + PATIENCE

        def tick() -> None:
            nonlocal ticks
            ticks += 1

        def is_enough() -> bool:
            interrupted = sum(not is_whole for _, is_whole in ended)
            return interrupted >= ENOUGH // 10 or time.monotonic() > deadline

        with Storm(region):
            while not is_enough():

                def end(result: Any, error: BaseException | None, number: int = number) -> None:
                    ended.append((number, error is None and result == number))

                coroutine: Coroutine[Any, Any, int] = user(number)
                task = loop.create_task(InterruptibleCoroutine(region, REQUEST, coroutine, end))
                for _ in range(3):
                    loop.call_soon(tick)
                await asyncio.wait([task])
                number += 1
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [number for number, _ in ended] == list(range(number))
    assert ticks == 3 * number
    assert any(not is_whole for _, is_whole in ended)


def test_a_task_that_nobody_interrupts_returns_its_value() -> None:
    ended: list[tuple[Any, BaseException | None]] = []

    async def user() -> str:
        await asyncio.sleep(0)
        return "value"

    async def main() -> None:
        steps = InterruptibleCoroutine(
            InterruptibleRegion(), REQUEST, user(), lambda *end: ended.append(end)
        )
        assert await asyncio.get_running_loop().create_task(steps) is None

    asyncio.run(main())
    assert ended == [("value", None)]


def test_what_a_cancelled_task_had_goes_without_the_collector() -> None:
    class Kept:
        pass

    async def user(kept: Kept) -> None:
        await asyncio.sleep(3600)

    async def own_work(coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except asyncio.CancelledError:
            pass

    async def main() -> weakref.ref[Kept]:
        kept = Kept()
        found = weakref.ref(kept)
        steps = InterruptibleCoroutine(
            InterruptibleRegion(), REQUEST, own_work(user(kept)), lambda *_: None
        )
        del kept
        task = asyncio.get_running_loop().create_task(steps)
        del steps
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return found

    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()
