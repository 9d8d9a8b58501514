"""The worker's event loop: what happens at the end of a turn."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

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


def _loop(failures: list[BaseException]) -> EventLoop:
    return EventLoop(Regions().current, failures.append, lambda: None)


def _close(loop: EventLoop) -> None:
    loop.close(PATIENCE)
    assert loop._loop is not None
    eventually(lambda: loop._loop is not None and not loop._loop.is_running())
    loop._loop.close()


def test_what_comes_meanwhile_keeps_nobody_from_a_turn() -> None:
    """Requests that come as fast as they are started leave those that run their turns."""
    failures: list[BaseException] = []
    loop = _loop(failures)
    has_slept = threading.Event()

    async def sleeps() -> None:
        await asyncio.sleep(0)
        has_slept.set()

    def comes_again() -> None:
        if not has_slept.is_set():
            loop.call_soon_threadsafe(comes_again)

    loop.call_soon_threadsafe(
        lambda: loop.create_task("sleeps", sleeps(), lambda *_: None) and None
    )
    loop.call_soon_threadsafe(comes_again)
    assert has_slept.wait(PATIENCE)
    _close(loop)
    assert failures == []


@pytest.mark.skipif("sys.version_info < (3, 12)", reason="eager tasks came with Python 3.12")
def test_a_task_takes_its_first_step_at_once_as_itself() -> None:
    failures: list[BaseException] = []
    happened: list[Any] = []
    loop = _loop(failures)
    is_over = threading.Event()
    variable: ContextVar[str] = ContextVar("variable", default="none")

    async def work() -> str:
        task = asyncio.current_task()
        happened.append(("first", variable.get(), task))
        variable.set("of the task")
        await asyncio.sleep(0)
        happened.append(("second", variable.get(), asyncio.current_task()))
        return "result"

    def start() -> None:
        variable.set("of the request")
        task = loop.create_task("request", work(), lambda *end: happened.append(end))
        happened.append(("made", variable.get(), asyncio.current_task()))
        happened.append(task)
        task.add_done_callback(lambda _: is_over.set())
        assert loop.statistics() == {"tasks": 1}

    async def one_step() -> None:
        """Ends with its first step."""

    loop.call_soon_threadsafe(start)
    assert is_over.wait(PATIENCE)
    task = happened[2]
    assert happened == [
        ("first", "of the request", task),
        ("made", "of the request", None),
        task,
        ("second", "of the task", task),
        ("result", None),
    ]
    assert task.request == "request"
    loop.call_soon_threadsafe(lambda: loop.create_task(1, one_step(), lambda *_: None) and None)
    eventually(lambda: loop.statistics() == {"tasks": 0})
    _close(loop)
    assert failures == []


class _Request:
    is_cancelled = False


def test_a_request_that_came_when_the_others_were_cancelled_is_cancelled_with_the_loop() -> None:
    failures: list[BaseException] = []
    loop = EventLoop(Regions().current, failures.append, lambda: None)
    request = _Request()
    has_begun = threading.Event()
    seen: list[object] = []

    async def task() -> None:
        has_begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(request.is_cancelled)
            raise

    loop.call_soon_threadsafe(lambda: loop.create_task(request, task(), lambda *_: None))
    assert has_begun.wait(PATIENCE)
    _close(loop)
    assert (seen, failures) == ([True], [])
