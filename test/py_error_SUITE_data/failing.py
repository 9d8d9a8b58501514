"""Everything that goes wrong in a function that should give values."""

import os
import resource
import sys


class UnheardOfError(Exception):
    """No node knows the name."""


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


not_callable = 42


def number():
    return 42


def takes_two(first, second):
    yield first
    yield second


def before():
    raise ValueError("at once")


def raising(name, after):
    """An exception of that name after `after` values."""
    yield from range(after)
    raise globals().get(name) or getattr(__builtins__, name, None) or __builtins__[name]


def exiting(after, status):
    yield from range(after)
    sys.exit(status)


def unsendable(after):
    yield from range(after)
    yield lambda: None


def wide():
    raise KeyError("überall – \N{SNOWMAN}")
    yield


def lone_surrogate():
    raise ValueError("\ud800")
    yield


def nested():
    def inner():
        raise LookupError("deep")

    inner()
    yield


async def async_before():
    raise ValueError("at once")


async def async_number():
    return 42


async def async_raising(name, after):
    for i in range(after):
        yield i
    raise globals().get(name) or __builtins__[name]


async def async_exiting(after, status):
    for i in range(after):
        yield i
    sys.exit(status)


async def async_unsendable(after):
    for i in range(after):
        yield i
    yield lambda: None


async def async_nested():
    def inner():
        raise LookupError("deep")

    inner()
    yield


def without_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    global kept
    kept = held
    raise OSError("none is left")


def with_files():
    for fd in kept:
        os.close(fd)
    raise OSError("none is left")
