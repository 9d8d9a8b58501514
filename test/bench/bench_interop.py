"""What the benchmarks of calls both ways run."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from itertools import count
from typing import Any

import erlang


def echo(value: Any) -> Any:
    """Hands its argument back."""
    return value


def endless() -> Iterator[int]:
    """Small integers for ever."""
    yield from count()


def sends(to: erlang.Pid, number: int) -> None:
    """Small integers as messages."""
    send = erlang.send
    for i in range(100_000, 100_000 + number):
        send(to, i)


def calls(number: int) -> None:
    """Calls of an Erlang function, one after another."""
    for i in range(number):
        erlang.call("bench_echo", i)


async def acalls(number: int) -> None:
    """The same, all at once."""
    await asyncio.gather(*(erlang.acall("bench_echo", i) for i in range(number)))


def down(depth: int) -> Any:
    """Calls Erlang, which calls this, and so on."""
    return 0 if depth == 0 else erlang.call("bench_down", depth - 1)


class Meeting:
    """Coroutines that wait for each other."""

    here = 0
    everybody: asyncio.Event


async def meet(number: int) -> int:
    """Returns when `number` of these wait."""
    if Meeting.here == 0:
        Meeting.everybody = asyncio.Event()
    Meeting.here += 1
    if Meeting.here == number:
        Meeting.here = 0
        Meeting.everybody.set()
    else:
        await Meeting.everybody.wait()
    return number


def one_after_another() -> None:
    """A port program in the manner of erlport: a loop that reads, calls and answers."""
    from erlang_port.etf import decoder

    stdin = os.fdopen(0, "rb")
    while header := stdin.read(4):
        number, name, args = decoder.decode(stdin.read(int.from_bytes(header, "big")))
        answer = decoder.encode((number, globals()[name](*args)))
        os.write(1, len(answer).to_bytes(4, "big") + answer)


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    one_after_another()
