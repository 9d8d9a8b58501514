"""Async generators and what else can be iterated; sync_sources has the same names."""

import asyncio
import time

import signs
import sync_sources


async def wait(path, seconds=10):
    end = time.monotonic() + seconds
    while not signs.is_there(path):
        if time.monotonic() > end:
            raise TimeoutError(f"no sign at {path}")
        await asyncio.sleep(0.001)


async def count(n):
    for i in range(n):
        yield i


async def forever():
    i = 0
    while True:
        yield i
        i += 1


async def lines(size, n):
    for i in range(n):
        yield f"{i:0{size}}"


async def sized(sizes):
    for size in sizes:
        yield b"v" * size


async def ticks(n, seconds):
    for i in range(n):
        yield i
        await asyncio.sleep(seconds)


async def echo(*args, **kwargs):
    yield list(args)
    yield kwargs


async def failing_after(n):
    for i in range(n):
        yield i
    raise ValueError("that was all")


async def yielding(values, after):
    for value in values:
        yield value
    await wait(after)


async def burst(n, after, last):
    for i in range(n):
        yield i
    await wait(after)
    yield last


async def computing(n, after):
    """Between its values it gives way to the loop, as async code must."""
    for i in range(n):
        yield i
    end = time.monotonic() + 10
    while not signs.is_there(after) and time.monotonic() < end:
        sum(range(100))
        await asyncio.sleep(0)


async def with_finally(n, path, seconds=0.0):
    try:
        for i in range(n):
            yield i
            if seconds:
                await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(0)
        signs.put(path)


async def failing_with_finally(path):
    try:
        yield 1
        raise KeyError("key")
    finally:
        signs.put(path)


async def close_waits(values, sign):
    try:
        for value in values:
            yield value
        yield "too much"
    finally:
        await wait(sign)


async def close_fails(n):
    try:
        for i in range(n):
            yield i
        yield "too much"
    finally:
        raise LookupError("while it was closed")


async def refuses_to_end(path):
    try:
        yield 1
        await asyncio.sleep(60)
    finally:
        signs.put(path)
        yield 2


async def empty():
    return
    yield


async def bad_value(before, after, sign=None):
    for i in range(before):
        yield i
    yield object()
    if sign:
        await wait(sign)
    for i in range(after):
        yield f"after {i}"


async def slow_start(sign):
    await wait(sign)
    yield 1


async def stubborn(path):
    """Goes on when it is cancelled, until it is closed."""
    try:
        while True:
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                pass
            yield 1
    finally:
        signs.put(path)


class Iterator:
    def __init__(self, n):
        self.left = n

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.left == 0:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


class Iterable:
    def __init__(self, n):
        self.n = n

    def __aiter__(self):
        return Iterator(self.n)


def kinds():
    return ["Iterator", "Iterable", "down", "coroutine_of_list", "coroutine_of_generator",
            "coroutine_of_async_generator", "coroutine_of_coroutine", "task", "coroutine_of_iterator"]


async def down(n):
    for i in range(n - 1, -1, -1):
        yield i


async def coroutine_of_list(n):
    await asyncio.sleep(0)
    return sync_sources.as_list(n)


async def coroutine_of_generator(n):
    return sync_sources.Factory.down(n)


async def coroutine_of_async_generator(n):
    await asyncio.sleep(0)
    return down(n)


async def coroutine_of_iterator(n):
    return Iterator(n)


async def coroutine_of_coroutine(n):
    return coroutine_of_async_generator(n)


class Task:
    """Awaitable, and no coroutine."""

    def __init__(self, n):
        self.n = n

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return range(self.n - 1, -1, -1)


def task(n):
    return Task(n)
