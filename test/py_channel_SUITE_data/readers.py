"""What reads from channels."""

import asyncio

import erlang


def total(values):
    return sum(values)


async def total_async(values):
    return sum([value async for value in values])


def first(values, count):
    """Takes some, and ends without the rest."""
    return [next(values) for _ in range(count)]


async def first_async(values, count):
    return [await anext(values) for _ in range(count)]


def doubled(values):
    for value in values:
        yield 2 * value


async def doubled_async(values):
    async for value in values:
        yield 2 * value


def lengths(values):
    return [1 if value == 1 else len(value) for value in values]


def keep(values, to):
    """Never takes any, until the test says that it may end."""
    erlang.send(to, erlang.Atom("kept"))
    erlang.call("channel_may_go_on")


def fail(values):
    next(values)
    raise ValueError("no more")


def close(values):
    values.close()
    values.close()
    return [list(values), repr(values)[:24]]


def within(values):
    with values as same:
        found = next(same)
    return found, list(values), list(same)


def why(values):
    """How it ends."""
    try:
        found = list(values)
    except erlang.ErlangError as error:
        return error.kind, error.reason, str(error), list(values)
    return erlang.Atom("end"), len(found)


async def why_async(values):
    try:
        found = [value async for value in values]
    except erlang.ErlangError as error:
        return error.kind, error.reason, str(error), [value async for value in values]
    return erlang.Atom("end"), len(found)


def why_after(values, count, to):
    """How it ends, for one who says when it has taken the first `count`."""
    for _ in range(count):
        next(values)
    erlang.send(to, erlang.Atom("reached"))
    return why(values)


async def why_after_async(values, count, to):
    for _ in range(count):
        await anext(values)
    erlang.send(to, erlang.Atom("reached"))
    return await why_async(values)


def types(values):
    return [(type(value).__name__, repr(value)) for value in values]


def errors(values):
    found = []
    while True:
        try:
            found.append(next(values))
        except StopIteration:
            return found
        except UnicodeDecodeError:
            found.append("error")


async def on_the_loop(values):
    return next(values)


def same(one, pair, *, named):
    return one is pair[0] is named["deep"], isinstance(one, erlang.Channel)


def back(value):
    return value


def read_side_by_side(values):
    """Two threads share the values."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        parts = list(threads.map(list, [values, values]))
    return sorted(parts[0] + parts[1])


async def read_in_tasks(values):
    async def read():
        return [value async for value in values]

    parts = await asyncio.gather(read(), read())
    return sorted(parts[0] + parts[1])


def rows(lines):
    """A library that reads lines."""
    import csv

    yield from csv.DictReader(lines)
