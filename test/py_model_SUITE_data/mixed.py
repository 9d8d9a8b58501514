"""Functions of every kind, whose results say whether they are right."""

import asyncio
import subprocess
import time

import erlang
from numbers_from_zero import (  # noqa: F401
    acount,
    aecho,
    aforever,
    aslow,
    count,
    echo,
    fail,
    forever,
    slow,
)


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
