"""Generators that tell the test when they begin and when they are closed."""

import erlang


def numbers(to, first=0):
    erlang.send(to, erlang.Atom("begins"))
    number = first
    try:
        while True:
            yield number
            number += 1
    finally:
        erlang.send(to, erlang.Atom("closed"))


async def numbers_async(to, first=0):
    for number in numbers(to, first):
        yield number


def fail(n):
    yield from range(n)
    raise ValueError("no more")


def leave(n):
    import os

    yield from range(n)
    os._exit(3)
