"""Loops that are broken off again and again, and what they leave."""

import gc
import queue
import threading
import time

import erlang

pieces = queue.Queue()
condition = threading.Condition()
semaphore = threading.Semaphore(2)
notes = []


def queues(count=None):
    i = 0
    while count is None or i < count:
        pieces.put(i)
        pieces.get()
        i += 1


def semaphores(count=None):
    i = 0
    while count is None or i < count:
        with semaphore:
            i += 1


def conditions(count=None):
    i = 0
    while count is None or i < count:
        with condition:
            condition.notify_all()
        i += 1


def prints(count=None):
    i = 0
    while count is None or i < count:
        print(end="")
        i += 1


class Finalized:
    def __del__(self):
        total = 0
        for i in range(20):
            total += i


def finalizers(count=None):
    i = 0
    while count is None or i < count:
        Finalized()
        i += 1


def collections(count=None):
    i = 0
    while count is None or i < count:
        gc.collect(0)
        i += 1


def slow_callback(phase, info):
    total = 0
    for i in range(20):
        total += i


def cleans_up(pid, seconds):
    """Takes its time in the `finally` that the first interrupt starts."""
    try:
        erlang.send(pid, "begun")
        while True:
            pass
    finally:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        notes.append("cleaned up")


async def cleans_up_async(pid, seconds):
    import asyncio

    try:
        erlang.send(pid, "begun")
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(seconds)
        notes.append("cleaned up")


def never_ends(pid):
    erlang.send(pid, "begun")
    while True:
        try:
            while True:
                pass
        except BaseException:
            notes.append("caught")


def take_notes():
    taken = list(notes)
    notes.clear()
    return taken
