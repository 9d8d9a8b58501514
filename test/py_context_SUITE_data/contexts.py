"""What py_context_SUITE calls."""

import asyncio
import contextvars
import decimal
import os

import erlang

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
level = contextvars.ContextVar("level", default=0)

# Preloaded: every request begins with these.
level.set(3)
decimal.getcontext().prec = 9


class Row:
    """Says who it is that encodes it."""

    def __erlang__(self):
        return user.get()


erlang.register_encoder(Row, Row.__erlang__)


def login(name):
    user.set(name)
    level.set(level.get() + 1)
    decimal.getcontext().prec -= 1
    return seen()


def seen():
    return [user.get(), level.get(), str(decimal.Decimal(1) / 3)]


async def login_async(name):
    found = login(name)
    await asyncio.sleep(0)
    user.set(name + "!")
    return found


async def seen_async():
    await asyncio.sleep(0)
    return seen()


def made_in_the_call(name):
    """The coroutine belongs to the call that made it."""
    user.set(name)
    return seen_async()


def login_stream(name, count):
    """Its context lasts from its first step to its last."""
    user.set(name)
    yield Row()
    for _ in range(count):
        yield user.get()
    user.set(name + "!")
    yield Row()
    try:
        yield user.get()
    finally:
        os.environ["closed_by"] = user.get()


def seen_stream():
    yield seen()


async def login_stream_async(name, count):
    user.set(name)
    for _ in range(count):
        yield user.get()
        await asyncio.sleep(0)
    yield Row()


async def seen_stream_async():
    yield seen()


async def iterable_of(name):
    """A coroutine whose result is iterated on a thread."""
    user.set(name)

    def rows():
        yield user.get()
        yield Row()

    return rows()


def closed_by():
    return os.environ.get("closed_by")


async def ticks():
    n = 0
    while True:
        yield n
        n += 1
        await asyncio.to_thread(str, n)


async def stop():
    asyncio.get_running_loop().stop()


async def close():
    asyncio.get_running_loop().close()


async def cancel_all():
    for task in asyncio.all_tasks():
        task.cancel()
    await asyncio.sleep(60)


async def shut_down():
    """What asyncio.run does at its end."""
    loop = asyncio.get_running_loop()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.sleep(0.01)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
    loop.stop()


async def loop_is_lost():
    """Only by way of what is not public can it be closed while it runs."""
    loop = asyncio.get_running_loop()
    never = loop.create_future()
    loop.stop()
    loop._closed = True
    await never


async def echo(value):
    await asyncio.sleep(0.001)
    return value
