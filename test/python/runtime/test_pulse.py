"""The pulse, on a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from erlang_port.etf import decoder
from erlang_port.runtime.pulse import LONGEST_SECONDS, PULSE_SECONDS, Pulse, encode


class Clock:
    """A ticker whose time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.deadlines: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        self.deadlines.append((self.now + seconds, function))

    def run(self, until: float) -> None:
        while due := [entry for entry in self.deadlines if entry[0] <= until]:
            entry = min(due, key=lambda found: found[0])
            self.deadlines.remove(entry)
            self.now = entry[0]
            entry[1]()
        self.now = until


class World:
    def __init__(self) -> None:
        self.counters = {"requests": 0}
        self.sent: list[tuple[float, dict[str, int]]] = []
        self.clock = Clock()
        clock: Any = self.clock
        self.pulse = Pulse(clock, lambda: dict(self.counters), self._send)

    def _send(self, counters: dict[str, int]) -> None:
        self.sent.append((self.clock.now, counters))


def test_many_requests_make_one_pulse() -> None:
    world = World()
    for count in range(100):
        world.counters["requests"] = count
        if not world.pulse.is_due:
            world.pulse.mark()
    world.clock.run(PULSE_SECONDS)
    assert world.sent == [(PULSE_SECONDS, {"requests": 99})]
    assert not world.pulse.is_due


def test_what_changes_by_itself_is_found() -> None:
    world = World()
    world.pulse.mark()
    world.clock.run(PULSE_SECONDS)
    world.counters["threads"] = 3
    world.clock.run(LONGEST_SECONDS)
    assert world.sent[-1][1]["threads"] == 3


def test_an_idle_worker_sleeps() -> None:
    """After a last request there are some checks, and then none."""
    world = World()
    for _ in range(20):
        world.pulse.mark()
        world.clock.run(world.clock.now + 2 * PULSE_SECONDS)
    world.clock.run(world.clock.now + 3 * LONGEST_SECONDS)
    assert world.clock.deadlines == []
    assert len(world.sent) == 1


def test_counters_are_a_map_with_atoms() -> None:
    assert decoder.decode(encode({})) == {}
    counters = {"requests": 0, "threads": 70000}
    assert decoder.decode(encode(counters)) == counters
