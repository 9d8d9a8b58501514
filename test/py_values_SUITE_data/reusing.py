"""Generators that yield one object again and again, and change it in between.

The value number i is i in every one of them, in a shape of its own.
"""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass


def in_dict(count):
    row = {}
    for i in range(count):
        row["i"] = i
        yield row


def in_list(count):
    row = [None]
    for i in range(count):
        row[0] = i
        yield row


def in_tuple(count):
    row = {}
    for i in range(count):
        row["i"] = i
        yield (row,)


def in_set(count):
    row = set()
    for i in range(count):
        row.clear()
        row.add(i)
        yield row


def in_bytearray(count):
    row = bytearray(4)
    for i in range(count):
        row[:] = i.to_bytes(4, "big")
        yield row


def in_memoryview(count):
    row = bytearray(4)
    view = memoryview(row)
    for i in range(count):
        row[:] = i.to_bytes(4, "big")
        yield view


@dataclass
class Row:
    i: int


def in_dataclass(count):
    row = Row(0)
    for i in range(count):
        row.i = i
        yield row


class Cursor:
    """Goes as the row that it stands at, on its own thread and while it is open only."""

    def __init__(self):
        self.thread = threading.get_ident()
        self.i = None

    def __erlang__(self):
        if self.i is None:
            raise ValueError("the cursor is closed")
        if threading.get_ident() != self.thread:
            raise ValueError("the cursor belongs to another thread")
        return {"i": self.i}


def in_cursor(count):
    cursor = Cursor()
    try:
        for i in range(count):
            cursor.i = i
            yield cursor
    finally:
        cursor.i = None


def cleared(count):
    batch = []
    for i in range(count):
        batch.append(i)
        yield batch
        batch.clear()


def by_finally(count):
    row = [0]
    try:
        for i in range(count):
            row[0] = i
            yield row
    finally:
        row[0] = -1


def by_a_thread(count):
    """Another thread changes the object as soon as the generator goes on."""
    asked, done = threading.Event(), threading.Event()
    row = [0]

    def change():
        while asked.wait() and row:
            row[0] = -1
            asked.clear()
            done.set()

    threading.Thread(target=change, daemon=True).start()
    for i in range(count):
        row[0] = i
        yield row
        done.clear()
        asked.set()
        done.wait()
    row.clear()
    asked.set()


def made_unsendable_later(count):
    row = [None]
    for i in range(count):
        row[:] = [i]
        yield row
        row.append(object())


def mixed(count):
    """Fixed values and one that changes, in turn."""
    row = [0]
    for i in range(count):
        row[0] = i
        yield (i, row, None, str(i))[i % 2]


async def async_dict(count):
    row = {}
    for i in range(count):
        row["i"] = i
        yield row


async def async_awaiting(count):
    row = deque([0])
    wrapped = [None]
    for i in range(count):
        row[0] = wrapped[0] = i
        yield wrapped
        if i % 7 == 0:
            await asyncio.sleep(0)


def sends(to, count):
    """Sends one object again and again."""
    import erlang

    row = {}
    for i in range(count):
        row["i"] = i
        erlang.send(to, row)
    return count
