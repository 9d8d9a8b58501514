"""A channel for what people read: output and log records. It loses some rather than stop code.

A thread that finds no room waits for a moment, as it would at a slow terminal. When the node
takes nothing for so long, and on threads that must not wait, items are dropped and counted, and
the count takes their place as soon as there is room again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erlang_port.node.channel import Channel
from erlang_port.runtime.interrupt import InterruptibleRegion, OneShotEvent

if TYPE_CHECKING:
    from erlang_port.worker import Worker

#: Encoded bytes that may be under way. A larger number costs memory in the node when its
#: terminal is slow, a smaller one makes code that prints wait for it sooner.
LIMIT = 1024 * 1024

#: How long a thread waits for a node that takes nothing, in seconds. A larger number makes
#: code stand still for longer where the terminal is stuck, a smaller one loses output that a
#: slow one would have taken.
PATIENCE_SECONDS = 1.0

Note = Callable[[int], list[Any]]


class LossyChannel:
    """Sends items, or drops them; `note` makes the item that says how many were dropped."""

    def __init__(self, program: Worker, kind: int, is_list: bool, note: Note) -> None:
        self._program = program
        self._channel = Channel(kind, program.frame_writer.put, program.ticker, LIMIT, is_list)
        self._note = note
        self._lock = threading.RLock()
        self._dropped = 0
        #: What the node had taken when it was last waited for in vain.
        self._stuck_at = -1

    def offer(self, parts: list[Any], count: int = 1) -> bool:
        """Sends an item, which stands for `count` of what is dropped; false if it was dropped."""
        region = self._program.node.region()
        if region is None:
            return self._offer(parts, count, None)
        return region.shielded(self._offer, parts, count, region)

    def _offer(self, parts: list[Any], count: int, region: InterruptibleRegion | None) -> bool:
        room = self._channel.room
        if room.is_full() and not self._wait(region):
            with self._lock:
                self._dropped += count
            return False
        self._put(parts)
        if self._program.node.may_wait(region):
            # Another thread may be writing, and this one's next step may be the process's
            # last. Not for ever: a finalizer may print while its own thread writes.
            self._program.frame_writer.wait(PATIENCE_SECONDS)
        return True

    def credit(self, taken: int) -> None:
        """The node has taken so much; on the thread that reads."""
        self._channel.room.credit(taken)
        if self._dropped:
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._put(self._note(dropped))

    def flush(self) -> None:
        """What was put before is with the frame_writer when this returns."""
        self._channel.flush()

    def _put(self, parts: list[Any]) -> None:
        self._channel.put(parts, sum(map(len, parts)))

    def _wait(self, region: InterruptibleRegion | None) -> bool:
        """Waits for room; false when there will be none soon."""
        room, node = self._channel.room, self._program.node
        while room.is_full():
            taken = room.taken
            if taken == self._stuck_at or not node.may_wait(region):
                return False
            bell = OneShotEvent()
            if room.add_waiter(bell.ring):
                node.wait(bell, region, PATIENCE_SECONDS)
            if room.taken == taken and room.is_full():
                self._stuck_at = taken
                return False
        return True

    def statistics(self) -> dict[str, int]:
        """As the room's, and how many items wait to be reported as dropped."""
        return {**self._channel.room.statistics(), "dropped": self._dropped}
