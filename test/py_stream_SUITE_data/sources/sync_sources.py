"""Generators and what else can be iterated; async_sources has the same names."""

import time

import signs


def count(n):
    for i in range(n):
        yield i


def forever():
    i = 0
    while True:
        yield i
        i += 1


def lines(size, n):
    for i in range(n):
        yield f"{i:0{size}}"


def sized(sizes):
    """One binary of each size."""
    for size in sizes:
        yield b"v" * size


def ticks(n, seconds):
    for i in range(n):
        yield i
        time.sleep(seconds)


def echo(*args, **kwargs):
    yield list(args)
    yield kwargs


def failing_after(n):
    for i in range(n):
        yield i
    raise ValueError("that was all")


def yielding(values, after):
    """Yields values, then waits for a sign."""
    yield from values
    signs.wait(after)


def burst(n, after, last):
    """Many values at once, a wait for a sign, then one more."""
    yield from range(n)
    signs.wait(after)
    yield last


def computing(n, after):
    """Many values at once, then Python code that never pauses, until there is a sign."""
    yield from range(n)
    end = time.monotonic() + 10
    while not signs.is_there(after) and time.monotonic() < end:
        sum(range(100))


def with_finally(n, path, seconds=0.0):
    """Leaves a sign when it is closed."""
    try:
        for i in range(n):
            yield i
            if seconds:
                time.sleep(seconds)
    finally:
        signs.put(path)


def failing_with_finally(path):
    try:
        yield 1
        raise KeyError("key")
    finally:
        signs.put(path)


def close_waits(values, sign):
    """When it is closed it waits for a sign."""
    try:
        yield from values
        yield "too much"
    finally:
        signs.wait(sign)


def close_fails(n):
    try:
        yield from range(n)
        yield "too much"
    finally:
        raise LookupError("while it was closed")


def refuses_to_end(path):
    """Yields in its finally block, as one should not."""
    try:
        yield 1
        time.sleep(60)
    finally:
        signs.put(path)
        yield 2


def empty():
    return
    yield


def bad_value(before, after, sign=None):
    """A value that is no term, among others; a pause behind it lets a clock come first."""
    yield from range(before)
    yield object()
    if sign:
        signs.wait(sign)
    for i in range(after):
        yield f"after {i}"


def slow_start(sign):
    signs.wait(sign)
    yield 1


class Iterator:
    def __init__(self, n):
        self.left = n

    def __iter__(self):
        return self

    def __next__(self):
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return self.left


class Iterable:
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return Iterator(self.n)


class Sequence:
    """Iterated by index, as before there were iterators."""

    def __init__(self, n):
        self.n = n

    def __getitem__(self, index):
        if index >= self.n:
            raise IndexError
        return self.n - index - 1


class Factory:
    @classmethod
    def down(cls, n):
        yield from range(n - 1, -1, -1)


def kinds():
    """The names of functions that yield the numbers below n, down to 0."""
    return ["Iterator", "Iterable", "Sequence", "Factory.down", "as_list", "as_tuple", "as_dict",
            "as_map", "as_generator_expression", "as_keys"]


def as_list(n):
    return list(range(n - 1, -1, -1))


def as_tuple(n):
    return tuple(range(n - 1, -1, -1))


def as_dict(n):
    return {i: None for i in range(n - 1, -1, -1)}


def as_keys(n):
    return as_dict(n).keys()


def as_map(n):
    return map(lambda i: i - 1, range(n, 0, -1))


def as_generator_expression(n):
    return (i for i in range(n - 1, -1, -1))
