"""Work of every kind for workers that are about to lose their node."""

import asyncio
import ctypes
import os
import time


def numbers():
    number = 0
    while True:
        yield number
        number += 1


async def async_numbers():
    number = 0
    while True:
        yield number
        number += 1
        await asyncio.sleep(0)


def spin():
    while True:
        pass


def hold_the_lock():
    """C code that keeps the interpreter lock for a minute."""
    yield os.getpid()
    ctypes.PyDLL(None).usleep(60_000_000)


def idle(closed):
    try:
        yield os.getpid()
        while True:
            time.sleep(0.01)
            yield 1
    finally:
        time.sleep(0.1)
        with open(closed, "w") as file:
            file.write("closed")
