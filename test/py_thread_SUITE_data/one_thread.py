"""What py_thread_SUITE calls: things that belong to the thread that made them."""

import asyncio
import os
import signal
import sqlite3
import threading
import time

db = sqlite3.connect(":memory:")
db.execute("create table stock (item, count)")

gate = threading.Event()
is_held = threading.Event()
log: list[object] = []


def thread():
    return threading.current_thread() is threading.main_thread()


def add(item):
    db.execute("insert into stock values (?, 1)", (item,))


def count():
    return db.execute("select count(*) from stock").fetchone()[0]


def items():
    """The cursor belongs to the main thread, from the first row to its end."""
    cursor = db.execute("select item from stock order by item")
    try:
        yield from (item for (item,) in cursor)
    finally:
        log.append(["closed", thread(), db.total_changes])


class Rows:
    def __iter__(self):
        return items()


async def items_of_a_coroutine():
    await asyncio.sleep(0)
    return Rows()


def set_handler():
    signal.signal(signal.SIGUSR1, lambda *_: log.append("signal"))
    os.kill(os.getpid(), signal.SIGUSR1)


def note(value):
    log.append(value)


def notes():
    found = list(log)
    log.clear()
    return found


def wait():
    """Keeps the main thread until the gate is open; can be interrupted."""
    is_held.set()
    while not gate.is_set():
        time.sleep(0.002)
    gate.clear()


def forever():
    try:
        while True:
            yield thread()
    finally:
        log.append("ended")


def spin():
    """Never ends; whoever interrupts it waits until it has begun."""
    try:
        is_held.set()
        while True:
            pass
    finally:
        log.append("spun")


async def main_thread_is_held():
    """Returns when `wait` or `spin` has begun."""
    while not is_held.is_set():
        await asyncio.sleep(0.001)
    is_held.clear()


async def open_gate():
    """Beside whatever the main thread does."""
    gate.set()
    return thread()


async def ticks():
    for n in range(100):
        await asyncio.sleep(0)
        yield n


def at_the_end(path):
    """A stream that never pauses, and notes that it was closed."""
    try:
        while True:
            yield 0
    finally:
        with open(path, "w") as file:
            file.write("closed on the main thread" if thread() else "closed elsewhere")
