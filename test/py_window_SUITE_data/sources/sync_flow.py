"""Generators that say how far they are; async_flow has the same names."""

import os
import pathlib
import time

#: How many values were asked of a generator, by its label.
pulled = {}


def progress(label):
    return pulled.get(label, 0)


def numbers(label):
    i = 0
    while True:
        pulled[label] = i + 1
        yield i
        i += 1


def sized(label, sizes):
    """Values of these sizes, again and again, each with its number."""
    i = 0
    while True:
        pulled[label] = i + 1
        yield b"%020d" % i + b"v" * sizes[i % len(sizes)]
        i += 1


def texts(n, size):
    for i in range(n):
        yield {"i": i, "text": "t" * size}


def count(n):
    yield from range(n)


def count_late(n):
    """The same, opened a little later than what comes after it."""
    time.sleep(0.1)
    return count(n)


def then_wait(sizes):
    """Values at once, then nothing for a long time."""
    for size in sizes:
        yield b"v" * size
    # Not in one sleep: an interrupt waits for its end.
    for _ in range(6000):
        time.sleep(0.01)


def ticks(n, seconds):
    for i in range(n):
        time.sleep(seconds)
        yield i


def working(folder, count):
    """Computes until as many processes do so; says which one this is."""
    (pathlib.Path(folder) / str(os.getpid())).touch()
    while len(os.listdir(folder)) < count:
        sum(range(1000))
    yield os.getpid()
