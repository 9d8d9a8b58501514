"""Async generators that say how far they are; sync_flow has the same names."""

import asyncio

from sync_flow import progress, pulled  # noqa: F401


async def numbers(label):
    i = 0
    while True:
        pulled[label] = i + 1
        yield i
        i += 1


async def sized(label, sizes):
    i = 0
    while True:
        pulled[label] = i + 1
        yield b"%020d" % i + b"v" * sizes[i % len(sizes)]
        i += 1


async def texts(n, size):
    for i in range(n):
        yield {"i": i, "text": "t" * size}


async def count(n):
    for i in range(n):
        yield i


async def then_wait(sizes):
    for size in sizes:
        yield b"v" * size
    await asyncio.sleep(60)


async def ticks(n, seconds):
    for i in range(n):
        await asyncio.sleep(seconds)
        yield i
