"""What runs often in order to see whether anything of it stays."""

import asyncio
import gc
import time


def count(n):
    yield from range(n)


async def acount(n):
    for i in range(n):
        yield i


def forever():
    i = 0
    while True:
        yield i
        i += 1


async def aforever():
    i = 0
    while True:
        yield i
        i += 1
        await asyncio.sleep(0)


def alate():
    """The same; what is cancelled at once is cancelled before anybody knows that it is async."""
    time.sleep(0.005)
    return aforever()


def failing(name):
    """Raises an exception of a class that was never seen before."""
    yield 0
    raise type(name, (Exception,), {})("that was all")


def echo(value):
    return value


async def aecho(value):
    return value


def spin():
    """Python code that ends only when it is interrupted."""
    while True:
        pass


async def asleep():
    await asyncio.sleep(3600)


def deadlines():
    """How many interrupts the port program has still in mind."""
    tickers = [found for found in gc.get_objects() if type(found).__name__ == "Ticker"]
    return sum(len(ticker._deadlines) for ticker in tickers)
