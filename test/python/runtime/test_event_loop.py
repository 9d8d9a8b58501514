"""The worker's event loop: what happens at the end of a turn."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.regions import Regions
from port import PATIENCE, eventually


def test_what_tasks_leave_to_the_end_of_a_turn_is_done_together() -> None:
    failures: list[BaseException] = []
    happened: list[object] = []
    both_ended = threading.Event()

    def turn_ended() -> None:
        happened.append("end")

    loop = EventLoop(Regions().current, failures.append, turn_ended)

    def end(turn: int, number: int) -> None:
        happened.append((turn, number, loop.is_ending_turn))

    async def task(number: int) -> None:
        for turn in range(2):
            loop.call_at_end_of_turn(partial(end, turn, number))
            await asyncio.sleep(0)

    def start() -> None:
        for number in range(3):
            loop.create_task(number, task(number), lambda *_: None)

    loop.call_soon_threadsafe(start)
    eventually(lambda: len(happened) == 8)
    expected = [[(turn, number, True) for number in range(3)] + ["end"] for turn in range(2)]
    assert happened == expected[0] + expected[1]
    assert not loop.is_ending_turn

    # One that fails is the worker's end, and the others have been written.
    def fail() -> None:
        raise ValueError("at the end")

    loop.call_soon_threadsafe(lambda: loop.call_at_end_of_turn(fail))
    loop.call_soon_threadsafe(lambda: loop.call_soon_threadsafe(both_ended.set))
    assert both_ended.wait(PATIENCE)
    eventually(lambda: len(failures) == 1)
    assert happened[-1] == "end"
    loop.close(PATIENCE)
    assert loop._loop is not None
    eventually(lambda: loop._loop is not None and not loop._loop.is_running())
    loop._loop.close()
