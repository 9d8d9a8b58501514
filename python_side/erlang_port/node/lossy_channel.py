"""A channel for what people read: output and log records. It loses some rather than stop code.

A thread that finds the window full waits for a moment, as it would at a slow terminal. When the
node takes nothing for so long, and on threads that must not wait, items are dropped and counted,
and the count is sent in their stead as soon as the window is open again.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

from erlang_port.hints import Any
from erlang_port.node.blocking import BlockingWait
from erlang_port.node.channel import Channel
from erlang_port.runtime.interrupt import InterruptibleRegion, OneShotEvent
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire.frame_writer import FrameWriter

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

    def __init__(
        self,
        frame_writer: FrameWriter,
        ticker: Ticker,
        blocking: BlockingWait,
        kind: int,
        is_list: bool,
        note: Note,
        address: bytes = b"",
    ) -> None:
        self._frame_writer = frame_writer
        self._blocking = blocking
        self._channel = Channel(kind, frame_writer.put, ticker, LIMIT, is_list, address)
        self._note = note
        self._lock = RLock()
        self._dropped = 0
        #: What the node had taken when it was last waited for and did not take more.
        self._stuck_at = -1

    def offer(self, buffers: list[Any], count: int = 1) -> bool:
        """Sends an item, which stands for `count` of what is dropped; false if it was dropped."""
        region = self._blocking.region()
        return self._blocking.shielded(region, self._offer, buffers, count, region)

    def _offer(self, buffers: list[Any], count: int, region: InterruptibleRegion | None) -> bool:
        window = self._channel.window
        if window.is_full() and not self._wait(region):
            with self._lock:
                self._dropped += count
            return False
        self._put(buffers)
        if self._blocking.may_wait(region):
            # Another thread may be writing, and this one's next step may be the process's
            # last. Not for ever: a finalizer may print while its own thread writes.
            self._frame_writer.wait(PATIENCE_SECONDS)
        return True

    def credit(self, taken: int) -> None:
        """The node has taken more; on the thread that reads."""
        self._channel.window.credit(taken)
        if self._dropped:
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                self._put(self._note(dropped))

    def credit_more(self, taken: int) -> None:
        """The same where the node says how much more it has taken, and not the sum."""
        window = self._channel.window
        # What this channel has not sent was sent by one before it.
        self.credit(min(window.sent, window.taken + taken))

    def flush(self) -> None:
        """What was offered before is with the frame writer when this returns."""
        self._channel.flush()

    def is_idle(self) -> bool:
        """Whether the node has taken everything."""
        window = self._channel.window
        return window.sent == window.taken and not self._channel.is_active and not self._dropped

    def _put(self, buffers: list[Any]) -> None:
        self._channel.put(buffers, sum(map(len, buffers)))

    def _wait(self, region: InterruptibleRegion | None) -> bool:
        """Waits for the window; false when it will not open soon."""
        window = self._channel.window
        while window.is_full():
            taken = window.taken
            if taken == self._stuck_at or not self._blocking.may_wait(region):
                return False
            event = OneShotEvent()
            if window.add_waiter(event.set):
                self._blocking.wait(event, region, PATIENCE_SECONDS)
            if window.taken == taken and window.is_full():
                self._stuck_at = taken
                return False
        return True
