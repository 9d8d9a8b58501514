"""What a thread does at the next events of its code, where the interpreter has such."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import pytest

from erlang_port.errors import Cancelled
from erlang_port.runtime import monitoring
from erlang_port.runtime.interrupt import InterruptibleRegion, Outcome

pytestmark = pytest.mark.skipif(
    monitoring._monitoring is None, reason="only CPython 3.13 and newer, with its lock"
)

lock = threading.Lock()


class Finalized:
    def __del__(self) -> None:
        sum(number for number in range(20))


def finalizers() -> None:
    while True:
        Finalized()


def held() -> None:
    with lock:
        return time.sleep(0.002)


def locks() -> None:
    while True:
        held()


def calls() -> None:
    while True:
        time.sleep(0.002)


def generators() -> None:
    any(number is None for number in iter(int, None))


def recursion(depth: int = 40) -> None:
    if depth:
        recursion(depth - 1)
        recursion(depth - 1)


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    found: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


def break_off(code: Callable[[], None]) -> None:
    region, request = InterruptibleRegion(), object()

    def interrupt() -> None:
        while region.interrupt(request) is not Outcome.RAISED and not is_over.is_set():
            time.sleep(0.002)

    is_over = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Cancelled):
        region.run(request, code)
    is_over.set()
    thread.join()


@pytest.mark.parametrize("code", [finalizers, locks, calls, generators, recursion])
def test_code_is_broken_off_and_leaves_nothing(
    code: Callable[[], None], unraisable: list[object]
) -> None:
    for _ in range(20):
        break_off(code)
        assert not lock.locked()
        assert not monitoring._armed
    assert unraisable == []


def test_a_call_is_broken_off_when_it_returns() -> None:
    """The next bytecode is an event as well: there is no call and no jump for a long time."""
    notes = []

    def once() -> None:
        time.sleep(0.2)
        notes.append("went on")
        time.sleep(0.2)

    break_off(once)
    assert notes == []


def test_without_a_tool_there_is_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_take_tool", lambda: None)
    for _ in range(20):
        break_off(calls)
