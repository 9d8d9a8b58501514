"""What py_call_SUITE calls."""

import asyncio
import os
import threading
import time

CONSTANT = 42
seen: list[object] = []
ended: dict[object, str] = {}


def echo(*args, **kwargs):
    return list(args), kwargs


def identity(value):
    return value


def blob(size):
    return b"x" * size


def note(value):
    seen.append(value)


def notes():
    return list(seen)


def fail(message):
    raise ValueError(message)


class Outer:
    value = 7

    class Inner:
        @staticmethod
        def static(x):
            return "static", x

        @classmethod
        def named(cls, x):
            return cls.__name__, x

    def method(self):
        return self.value


class Unsendable:
    pass


def unsendable():
    return Unsendable()


class OwnError(Exception):
    pass


def own_error():
    raise OwnError("mine")


def leave():
    raise SystemExit(3)


def die():
    os._exit(7)


def spin(key):
    """Computes until it is broken off, and says how it was."""
    ended[key] = "running"
    try:
        while True:
            pass
    except BaseException as error:
        ended[key] = type(error).__name__
        raise


async def rest(key):
    ended[key] = "running"
    try:
        await asyncio.sleep(3600)
    except BaseException as error:
        ended[key] = type(error).__name__
        raise


async def spin_on_the_loop(key):
    spin(key)


def state(key):
    return ended.get(key, "unknown")


def after(seconds, value):
    time.sleep(seconds)
    return value


async def twice(value):
    await asyncio.sleep(0)
    return 2 * value


async def async_fail():
    await asyncio.sleep(0)
    raise KeyError("no")


def returns_awaitable(value):
    return twice(value)


class Meeting:
    here = 0
    everybody: "asyncio.Event | None" = None


async def meet(count):
    """Returns when `count` of these run at the same time."""
    if Meeting.everybody is None:
        Meeting.everybody = asyncio.Event()
    Meeting.here += 1
    if Meeting.here == count:
        Meeting.everybody.set()
    await Meeting.everybody.wait()
    return count


gate = threading.Event()
idle_streams = 0


def idle():
    """A stream that yields once and then waits for the gate."""
    global idle_streams
    idle_streams += 1
    yield "here"
    gate.wait()


def idle_count():
    return idle_streams


def open_gate():
    gate.set()


def endless():
    n = 0
    while True:
        yield n
        n += 1


def was_cancelled(key):
    """Waits politely, and notes that it was asked to end."""
    import erlang

    ended[key] = "running"
    while not erlang.cancelled():
        time.sleep(0.002)
    ended[key] = "asked to end"
