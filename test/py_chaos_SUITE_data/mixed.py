"""Functions of every kind, whose results say whether they are right."""

import asyncio
import itertools
import subprocess
import time

import erlang


def echo(value):
    return value


async def aecho(value):
    await asyncio.sleep(0)
    return value


def nap(value, *, seconds=0.05):
    time.sleep(seconds)
    return value


async def anap(value, *, seconds=0.05):
    await asyncio.sleep(seconds)
    return value


def send_back(to, number):
    erlang.send(to, ("cast", number))


def child(value):
    subprocess.run(["true"], check=True)
    return value


def fail():
    raise ValueError("no")


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


def slow(n):
    for i in range(n):
        yield i
        time.sleep(0.001)


async def aslow(n):
    for i in range(n):
        yield i
        await asyncio.sleep(0.001)


def total(numbers):
    return sum(numbers)


async def atotal(numbers):
    return sum([number async for number in numbers])


def piped(numbers):
    yield from numbers


async def apiped(numbers):
    async for number in numbers:
        yield number


def called(number):
    return erlang.call("chaos_next", number)


async def acalled(number):
    return await erlang.acall("chaos_next", number)


def down(number):
    return 0 if number == 0 else 1 + erlang.call("chaos_down", number - 1)


class Counter:
    def __init__(self):
        self.number = 0

    def add(self, number):
        self.number += number
        return self.number

    def below(self):
        yield from range(self.number)
