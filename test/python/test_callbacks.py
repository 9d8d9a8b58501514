"""erlang.from_callback and its async twin, outside of a worker; in one: py_bridge_SUITE."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from types import GeneratorType
from typing import Any

import pytest

import erlang

Callback = Callable[..., bool]


async def listed(values: AsyncIterator[Any]) -> list[Any]:
    return [value async for value in values]


def values_of(twin: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
    if twin == "sync":
        return list(erlang.from_callback(function, *args, **kwargs))
    return asyncio.run(listed(erlang.afrom_callback(function, *args, **kwargs)))


both = pytest.mark.parametrize("twin", ["sync", "async"])


@both
@pytest.mark.parametrize("maxsize", [1, 2, 8, 1000])
def test_what_the_callback_is_given_is_yielded_in_order(twin: str, maxsize: int) -> None:
    def count(first: int, last: int, callback: Callback, *, step: int) -> None:
        for number in range(first, last, step):
            assert callback(number) is False

    assert values_of(twin, count, 5, 500, maxsize=maxsize, step=2) == [*range(5, 500, 2)]


@both
def test_several_arguments_are_a_tuple(twin: str) -> None:
    def watch(callback: Callback) -> None:
        callback("created", "a.txt")
        callback()
        callback(None)

    assert values_of(twin, watch) == [("created", "a.txt"), (), None]


@both
def test_an_error_comes_after_the_values_before_it(twin: str) -> None:
    def fail(callback: Callback) -> None:
        callback(1)
        callback(2)
        raise KeyError("why")

    async def collect() -> list[Any]:
        return [await anext(values), await anext(values), await anext(values)]

    if twin == "sync":
        sync_values = erlang.from_callback(fail)
        assert [next(sync_values), next(sync_values)] == [1, 2]
        with pytest.raises(KeyError, match="why"):
            next(sync_values)
    else:
        values = erlang.afrom_callback(fail)
        with pytest.raises(KeyError, match="why"):
            asyncio.run(collect())


def test_what_the_function_returns_is_the_value_of_yield_from() -> None:
    def count(callback: Callback) -> str:
        callback(1)
        return "all"

    def outer() -> Any:
        result = yield from erlang.from_callback(count)
        yield result

    assert list(outer()) == [1, "all"]
    assert isinstance(erlang.from_callback(count), GeneratorType)


class Endless:
    """Calls back until it learns that nobody wants more."""

    def __init__(self) -> None:
        self.taken = 0
        self.said: Any = None
        self.ended = threading.Event()
        self.is_full = threading.Event()
        self.full_at = 0

    def __call__(self, callback: Callback) -> None:
        try:
            while not (said := callback(self.taken)):
                self.taken += 1
                if self.taken == self.full_at:
                    self.is_full.set()
            self.said = said
        except BaseException as error:
            self.said = error
            raise
        finally:
            self.ended.set()


@pytest.mark.parametrize("maxsize", [1, 3, 8])
def test_the_function_waits_for_its_reader(maxsize: int) -> None:
    endless = Endless()
    endless.full_at = 4 + maxsize
    values = erlang.from_callback(endless, maxsize=maxsize)
    assert [next(values) for _ in range(4)] == [0, 1, 2, 3]
    assert not endless.ended.wait(0.05)
    assert endless.taken <= 4 + maxsize
    values.close()
    assert endless.ended.wait(10)
    assert endless.said is True
    assert endless.taken <= 4 + maxsize


def test_the_function_waits_for_its_async_reader() -> None:
    async def read() -> None:
        endless = Endless()
        values = erlang.afrom_callback(endless)
        assert [await anext(values) for _ in range(4)] == [0, 1, 2, 3]
        await values.aclose()
        assert await asyncio.to_thread(endless.ended.wait, 10)
        assert endless.said is True
        assert endless.taken <= 4 + 8

    asyncio.run(read())


def test_it_raises_cancelled_if_asked() -> None:
    endless = Endless()
    values = erlang.from_callback(endless, raises=True)
    next(values)
    values.close()
    assert endless.ended.wait(10)
    assert isinstance(endless.said, erlang.Cancelled)


def test_an_async_reader_may_be_cancelled_before_the_first_value() -> None:
    asked, go_on, said = threading.Event(), threading.Event(), []

    def slow(callback: Callback) -> None:
        asked.set()
        go_on.wait(10)
        said.append(callback("late"))

    async def cancel() -> None:
        task = asyncio.create_task(listed(erlang.afrom_callback(slow)))
        await asyncio.to_thread(asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        while not said:
            await asyncio.sleep(0.001)

    asyncio.run(cancel())
    assert said == [True]


def test_nothing_runs_before_the_first_value_is_asked_for() -> None:
    endless = Endless()
    erlang.from_callback(endless).close()
    assert endless.taken == 0


def test_the_callback_may_be_called_late_and_from_any_thread() -> None:
    kept: list[Callback] = []

    def many(callback: Callback) -> None:
        kept.append(callback)
        threads = [threading.Thread(target=callback, args=(n,)) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(erlang.from_callback(many, maxsize=2)) == [*range(50)]
    assert kept[0]("too late") is True


def test_the_function_runs_in_a_copy_of_the_readers_context() -> None:
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert list(erlang.from_callback(lambda callback: callback(variable.get()))) == [7]


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, True, None])
def test_a_size_is_a_positive_number(maxsize: Any) -> None:
    for make in (erlang.from_callback, erlang.afrom_callback):
        with pytest.raises(ValueError, match="maxsize"):
            make(print, maxsize=maxsize)
