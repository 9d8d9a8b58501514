"""Everything that can go wrong in a worker, by name."""

import asyncio
import ctypes
import os
import signal
import time

import erlang

kept = []


def pid():
    return os.getpid()


def numbers(reporter=None):
    """Endless, and says when it is closed."""
    number = 0
    try:
        while True:
            yield number
            number += 1
    finally:
        if reporter is not None:
            erlang.send(reporter, "closed")


async def async_numbers(reporter=None):
    number = 0
    try:
        while True:
            yield number
            number += 1
            await asyncio.sleep(0)
    finally:
        if reporter is not None:
            erlang.send(reporter, "closed")


def idle(reporter=None):
    """One value, the process's number, and then nothing."""
    try:
        yield os.getpid()
        while True:
            time.sleep(0.01)
    finally:
        if reporter is not None:
            erlang.send(reporter, "closed")


def ticks(reporter=None):
    """A value every ten milliseconds."""
    try:
        while True:
            yield os.getpid()
            time.sleep(0.01)
    finally:
        if reporter is not None:
            erlang.send(reporter, "closed")


async def async_idle(reporter=None):
    try:
        yield os.getpid()
        await asyncio.sleep(3600)
    finally:
        if reporter is not None:
            erlang.send(reporter, "closed")


def die(how):
    if how == "exit":
        os._exit(7)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()


def die_in_stream(how):
    yield from range(3)
    time.sleep(0.05)
    die(how)


async def die_in_async_stream(how):
    for number in range(3):
        yield number
    await asyncio.sleep(0.05)
    die(how)


# Code that does not end.


def spin():
    yield os.getpid()
    while True:
        pass


def spin_in_call():
    while True:
        pass


async def async_spin():
    yield os.getpid()
    await asyncio.sleep(0.05)
    while True:
        pass


async def async_spin_in_call():
    await asyncio.sleep(0)
    while True:
        pass


def spin_in_finally():
    try:
        yield os.getpid()
        while True:
            yield 1
    finally:
        while True:
            pass


async def async_takes_no_notice():
    yield os.getpid()
    for _ in range(3):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


class Stuck:
    def __erlang__(self):
        while True:
            pass


class StuckError(Exception):
    def __str__(self):
        while True:
            pass


def stuck_in_encoder():
    yield os.getpid()
    time.sleep(0.05)
    yield Stuck()


async def async_stuck_in_encoder():
    yield os.getpid()
    await asyncio.sleep(0.05)
    yield Stuck()
    await asyncio.sleep(3600)


def stuck_in_reason():
    yield os.getpid()
    raise StuckError


def stubborn(reporter):
    yield os.getpid()
    erlang.send(reporter, "stuck")
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def sleep_in_c(reporter):
    yield os.getpid()
    erlang.send(reporter, "stuck")
    time.sleep(3600)


def hold_the_lock(reporter, seconds):
    """C code that keeps the interpreter lock."""
    yield os.getpid()
    erlang.send(reporter, "stuck")
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


def hold_the_lock_in_call(seconds):
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


# Memory.


def allocate(size):
    return len(bytearray(size))


def hoard():
    """Small objects until there is no room for one more."""
    hoarded = []
    try:
        while True:
            hoarded.append(bytearray(1000))
    except MemoryError:
        count = len(hoarded)
        del hoarded
        raise MemoryError(f"after {count}") from None


def large(size, times):
    for _ in range(times):
        yield b"x" * size


def size_of(data):
    return len(data)


def wait_then_count(n):
    time.sleep(0.3)
    yield from range(n)


# Descriptors and children.


def leave_children(count):
    """Children that outlive their parent, by every way that there is."""
    import multiprocessing
    import subprocess

    pids = [subprocess.Popen(["sleep", "60"]).pid for _ in range(count)]
    for _ in range(count):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        pids.append(child)
    for _ in range(count):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        process.start()
        pids.append(process.pid)
    return pids


def fork_in_c():
    """A child that Python does not know of holds every descriptor."""
    child = ctypes.CDLL(None).fork()
    if child == 0:
        ctypes.CDLL(None).sleep(60)
        ctypes.CDLL(None)._exit(0)
    return child


def close_stderr():
    os.close(2)


def write_everywhere():
    import logging
    import sys

    print("printed")
    try:
        print("complained", file=sys.stderr)
        sys.stderr.flush()
    except OSError:
        pass  # As it would be in any Python.
    logging.getLogger("x").error("logged")
    os.system("echo from a child >&2")
    return os.getpid()
