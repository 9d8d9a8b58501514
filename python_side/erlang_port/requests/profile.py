"""The profile of one request, by cProfile: the option `profile`."""

from __future__ import annotations

import cProfile
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from erlang_port.hints import Any


def profiled(function: Callable[..., Any], path: str) -> Callable[..., Any]:
    """The function, which writes its profile into a file when it ends.

    So do the coroutine or the generator that it returns: only their own steps are in it.
    """
    return partial(_call, function, path)


def _call(function: Callable[..., Any], path: str, /, *args: Any, **kwargs: Any) -> Any:
    profiler = cProfile.Profile()
    value: Any = None
    try:
        value = profiler.runcall(function, *args, **kwargs)
    finally:
        profiler.dump_stats(path)
    if isinstance(value, GeneratorType):
        return _generator(profiler, path, value)
    if isinstance(value, CoroutineType):
        return _coroutine(profiler, path, value)
    if isinstance(value, AsyncGeneratorType):
        return _async_generator(profiler, path, value)
    return value


def _generator(
    profiler: cProfile.Profile, path: str, steps: Generator[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    try:
        return (yield from _drive(profiler, steps))
    finally:
        profiler.dump_stats(path)


async def _coroutine(
    profiler: cProfile.Profile, path: str, steps: CoroutineType[Any, Any, Any]
) -> Any:
    try:
        return await _Driven(profiler, steps)
    finally:
        profiler.dump_stats(path)


async def _async_generator(
    profiler: cProfile.Profile, path: str, values: AsyncGeneratorType[Any, Any]
) -> AsyncGenerator[Any, None]:
    try:
        while True:
            try:
                value = await _Driven(profiler, values.__anext__())
            except StopAsyncIteration:
                return
            yield value
    finally:
        await _Driven(profiler, values.aclose())
        profiler.dump_stats(path)


class _Driven:
    """Something to await, whose steps are profiled."""

    def __init__(self, profiler: cProfile.Profile, awaitable: Any) -> None:
        self._profiler = profiler
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return _drive(self._profiler, self._awaitable.__await__())


def _drive(profiler: cProfile.Profile, steps: Any) -> Generator[Any, Any, Any]:
    """The same steps; what runs between them is not in the profile."""
    step: Callable[[], Any] = partial(next, steps)
    while True:
        profiler.enable()
        try:
            value = step()
        except StopIteration as end:
            return end.value
        finally:
            profiler.disable()
        try:
            sent = yield value
            step = partial(next, steps) if sent is None else partial(steps.send, sent)
        except BaseException as error:
            step = partial(steps.throw, error)
