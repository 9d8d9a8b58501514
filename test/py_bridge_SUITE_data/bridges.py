"""Generators over functions that take a callback, which tell the test what becomes of them."""

import threading

import erlang


def count(to, callback):
    number = 0
    while not callback(number):
        number += 1
    erlang.send(to, (erlang.Atom("ended"), number, erlang.cancelled()))


def sync_count(to):
    return erlang.from_callback(count, to)


def async_count(to):
    return erlang.afrom_callback(count, to)


def silent(to, callback):
    """Gives nothing until the test says so."""
    erlang.send(to, erlang.Atom("waiting"))
    erlang.call("bridge_may_end")
    erlang.send(to, (erlang.Atom("said"), callback(1)))


def sync_silent(to):
    try:
        yield from erlang.from_callback(silent, to)
    finally:
        erlang.send(to, erlang.Atom("closed"))


async def async_silent(to):
    try:
        async for value in erlang.afrom_callback(silent, to):
            yield value
    finally:
        erlang.send(to, erlang.Atom("closed"))


def fail(callback):
    callback(1)
    raise ValueError("no more")


def sync_fail():
    return erlang.from_callback(fail)


def async_fail():
    return erlang.afrom_callback(fail)


def name_stream(callback):
    stream = erlang.stream()
    callback((stream.owner, stream.reference, threading.current_thread().name))


def sync_stream_of():
    return erlang.from_callback(name_stream)


def async_stream_of():
    return erlang.afrom_callback(name_stream)


async def on_the_loop():
    return list(erlang.from_callback(fail))


def many(n, callback):
    for number in range(n):
        callback(number)


def sync_many(n):
    return erlang.from_callback(many, n)


def async_many(n):
    return erlang.afrom_callback(many, n)
