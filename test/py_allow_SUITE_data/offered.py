"""A module that a pool may allow as a whole."""

import functools
import os
import subprocess
from os import system
from os import system as renamed

called: list[str] = []


def public(*_args, **_kwargs):
    called.append("public")
    return "public"


def µ():  # The compiler makes another letter of it.
    called.append("mu")
    return "mu"


def _private():
    called.append("private")


def __dunder__():  # noqa: N807 - what is tried is such a name
    called.append("dunder")


def values(count):
    yield from range(count)


async def later():
    return "later"


class Offered:
    """A class of the module itself."""

    def method(self):
        called.append("method")

    @staticmethod
    def static():
        called.append("static")
        return "static"

    class Inner:
        pass

    def __erlang__(self):
        return "an instance"


class Callable:
    def __call__(self):
        called.append("instance")
        return "instance"


instance = Callable()
bound = Offered().method
shell = functools.partial(os.system)
table: dict[str, object] = {"system": system}
data = 7


@functools.wraps(public)
def wrapped():
    called.append("wrapped")
    return "wrapped"


def __getattr__(name):
    if name == "changing":
        # A different answer each time.
        table["asked"] = not table.get("asked")
        return public if table["asked"] else system
    raise AttributeError(name)


def what_was_called():
    found = list(called)
    called.clear()
    return found


def unused():
    return subprocess, renamed
