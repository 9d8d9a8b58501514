"""Objects that say what becomes of them."""

import asyncio
import threading
import time
import weakref

import erlang

#: Those that live, whatever code was broken off: an interrupt may come before a message is sent.
_living = weakref.WeakSet()


class Thing:
    def __init__(self, to, name="thing"):
        _living.add(self)
        self.to = to
        self.name = name
        self.thread = threading.get_ident()

    def __del__(self):
        on_main = threading.current_thread() is threading.main_thread()
        erlang.send(self.to, (erlang.Atom("ended"), self.name, on_main))

    def add(self, *numbers, last=0):
        return sum(numbers) + last

    def count(self, n):
        yield from range(n)

    async def later(self, value):
        await asyncio.sleep(0)
        return value

    async def count_later(self, n):
        for number in range(n):
            yield number

    def itself(self):
        return self

    def child(self):
        return Thing(self.to, "child")

    def __call__(self, value):
        return self.name, value

    def leave(self):
        import os

        os._exit(3)

    number = 7


class Sub(Thing):
    pass


def make(to):
    return Sub(to)


async def make_later(to):
    await asyncio.sleep(0)
    return Thing(to)


def make_slowly(to, seconds):
    thing = Thing(to)
    time.sleep(seconds)
    return thing


def living():
    return sum(1 for _ in _living)


def name_of(thing, *, other=None):
    return thing.name, None if other is None else other.name


def names_within(things):
    return [thing.name for thing in things["deep"]]


def back(value):
    return value


def kind(value):
    return type(value).__qualname__


def fail():
    raise ValueError("no thing")
