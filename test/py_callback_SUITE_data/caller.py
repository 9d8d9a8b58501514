"""What py_callback_SUITE runs: Python code that uses the node."""

import asyncio
import os
import sys
import threading
import time

import erlang
from erlang import plus

notes: dict[object, object] = {}

# When this module is preloaded, that happens before the worker takes work.
try:
    erlang.send("preloaded", "hello")
    at_import = erlang.call("plus", 1, 2)
except erlang.ErlangError as error:
    at_import = str(error)


def imported():
    return at_import


def note(key):
    return notes.get(key, "nothing")


def send(to, *terms):
    for term in terms:
        erlang.send(to, term)
    return "sent"


def send_to_name(name, node, term):
    erlang.send((name, node), term)


def send_to(to, term):
    """To what is given, whatever it is."""
    erlang.send(eval(to), term)


def count_to(to, count):
    for number in range(count):
        erlang.send(to, number)
    return "counted"


def slowly(to, count):
    for number in range(count):
        time.sleep(0.001)
        erlang.send(to, number)


async def count_in_tasks(to, tasks, count):
    async def one(name):
        for number in range(count):
            erlang.send(to, (name, number))
            if number % 7 == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(one(name) for name in range(tasks)))
    return "counted"


def count_in_threads(to, threads, count):
    def one(name):
        for number in range(count):
            erlang.send(to, (name, number))

    running = [threading.Thread(target=one, args=(name,)) for name in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return "counted"


def sizes(to, sizes):
    for size in sizes:
        erlang.send(to, b"x" * size)


def flood(key, to, count, size):
    """Notes how many messages have left."""
    block = b"x" * size
    for number in range(count):
        erlang.send(to, block)
        notes[key] = number + 1
    return "through"


async def flood_the_loop(key, to, count, size):
    """Sends without awaiting anything; how many fit."""
    block = b"x" * size
    for number in range(count):
        try:
            erlang.send(to, block)
        except BlockingIOError:
            notes[key] = number
            return number
    return count


async def flood_and_drain(to, count, size):
    block = b"x" * size
    for _ in range(count):
        await erlang.drain()
        erlang.send(to, block)
    return "through"


def call(name, *args):
    return erlang.call(name, *args)


def call_with_timeout(name, seconds):
    try:
        return erlang.call(name, timeout=seconds)
    except TimeoutError as error:
        return "too late", str(error)


async def acall(name, *args):
    return await erlang.acall(name, *args)


def call_of_the_loop():
    async def on_the_loop():
        erlang.call("plus", 1, 2)

    return on_the_loop()


def by_attribute(a, b):
    return erlang.plus(a, b)


def by_import(a, b):
    return plus(a, b), repr(plus)


def in_a_thread(a, b):
    results = []
    thread = threading.Thread(target=lambda: results.append(erlang.call("plus", a, b)))
    thread.start()
    thread.join()
    return results[0]


def in_a_loop_of_its_own(a, b):
    return asyncio.run(acall("plus", a, b))


def failure(name, *args):
    """All there is to know about how a function failed."""
    try:
        erlang.call(name, *args)
    except erlang.ErlangError as error:
        return {
            "kind": error.kind,
            "reason": error.reason,
            "stacktrace": error.stacktrace,
            "text": str(error),
        }


async def many(name, count):
    return sum(await asyncio.gather(*(erlang.acall(name, n) for n in range(count))))


async def many_blobs(name, count, size):
    blob = b"x" * size
    return sum(await asyncio.gather(*(erlang.acall(name, blob) for _ in range(count))))


async def impatient(name):
    try:
        await asyncio.wait_for(erlang.acall(name), 0.02)
    except asyncio.TimeoutError:
        return "too late"


def stuck_in_a_call(key, name):
    notes[key] = "waiting"
    try:
        erlang.call(name)
    except BaseException as error:
        notes[key] = type(error).__name__
        raise


def down(depth):
    return depth if depth == 0 else 1 + erlang.call("down", depth - 1)


async def adown(depth):
    return depth if depth == 0 else 1 + await erlang.acall("adown", depth - 1)


def stream_down(depth):
    yield from erlang.call("stream_down", depth - 1) if depth else ()
    yield depth


def whereis(name):
    return erlang.whereis(name)


def about_the_stream(key):
    """A stream that yields what it knows of itself."""
    stream = erlang.stream()
    try:
        yield stream.reference
        yield stream.owner
        yield stream.cancelled()
        while True:
            yield 0
    finally:
        notes[key] = stream.cancelled(), erlang.cancelled()


async def about_the_async_stream(key):
    stream = erlang.stream()
    try:
        yield stream.reference
        yield stream.owner
        yield stream.cancelled()
        while True:
            await asyncio.sleep(0.001)
            yield 0
    finally:
        notes[key] = stream.cancelled(), erlang.cancelled()


def no_stream():
    return erlang.stream() is None and erlang.cancelled() is False


async def no_async_stream():
    await asyncio.sleep(0)
    return erlang.stream() is None and erlang.cancelled() is False


def reports(to, count):
    """A stream that sends messages, too."""
    for number in range(count):
        erlang.send(to, ("about to yield", number))
        yield number


def forked():
    """What a forked child finds."""
    read, write = os.pipe()
    if os.fork() == 0:
        found = []
        for use in (
            lambda: erlang.send("anybody", 1),
            lambda: erlang.call("plus", 1, 2),
        ):
            try:
                use()
                found.append("nothing")
            except RuntimeError:
                found.append("RuntimeError")
        os.write(write, ",".join(found).encode())
        os._exit(0)
    os.close(write)
    os.wait()
    return os.read(read, 1000)


class Encoded:
    def __erlang__(self):
        return {"as": "a map"}


def send_values(to):
    erlang.send(to, Encoded())
    erlang.send(to, erlang.Atom("an_atom"))
    erlang.send(to, None)
    try:
        erlang.send(to, object())
    except TypeError:
        erlang.send(to, "not sent")


class Finalized:
    def __init__(self, to):
        self.to = to

    def __del__(self):
        erlang.send(self.to, "finalized")


def finalizers(to, count):
    for _ in range(count):
        Finalized(to)
        erlang.send(to, "sent")


def version():
    return sys.version_info[:2]
