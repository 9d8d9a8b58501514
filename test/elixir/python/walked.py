"""Generators that tell the test when they begin and when they are closed; and what values are."""

import erlang


def numbers(to, first=0):
    erlang.send(to, erlang.Atom("begins"))
    number = first
    try:
        while True:
            yield number
            number += 1
    finally:
        erlang.send(to, erlang.Atom("closed"))


def fail(n):
    yield from range(n)
    raise ValueError("no more")


def shown(value):
    """The type of a value, and what Python would print."""
    return type(value).__name__, repr(value)


def back(value):
    return value
