"""Streams of 0, 1, 2, ...: short and endless, quick and slow, failing and stuck."""

import asyncio
import itertools
import time


def count(n):
    yield from range(n)


async def acount(n):
    for i in range(n):
        yield i


def forever(_):
    yield from itertools.count()


async def aforever(_):
    for i in itertools.count():
        yield i
        await asyncio.sleep(0)


def failing(n):
    yield from range(n)
    raise ValueError("that was all")


async def afailing(n):
    for i in range(n):
        yield i
    raise ValueError("that was all")


def slow(n):
    for i in range(n):
        yield i
        time.sleep(0.001)


async def aslow(n):
    for i in range(n):
        yield i
        await asyncio.sleep(0.001)


def stuck(n):
    """Never comes to its end by itself, nor to another value."""
    yield from range(n)
    while True:
        time.sleep(0.001)


async def astuck(n):
    for i in range(n):
        yield i
    await asyncio.sleep(3600)


def echo(value):
    return value


async def aecho(value):
    await asyncio.sleep(0)
    return value


def fail():
    raise ValueError("no")


def spin():
    while True:
        pass
