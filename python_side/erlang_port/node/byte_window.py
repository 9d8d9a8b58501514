"""How much of what a worker sends by itself is under way: sent here and not yet taken there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class ByteWindow:
    """At most `limit` encoded bytes are under way, and one item more.

    The node says what it has taken, in sums since the start. No lock: `sent` is written by
    whoever holds the channel's, `taken` by the thread that reads.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent = 0
        self.taken = 0
        self._waiting: deque[Callable[[], object]] = deque()

    def is_full(self) -> bool:
        """Whether nothing more may be sent for now."""
        return self.sent - self.taken >= self.limit

    def credit(self, taken: int) -> None:
        """The node has taken `taken` bytes in all; what it said before is less."""
        self.taken = max(self.taken, taken)
        while self._waiting:
            self._waiting.popleft()()

    def add_waiter(self, wake: Callable[[], object]) -> bool:
        """Calls `wake` once when something is taken, from another thread.

        False when something is available by now, and there is nothing to wait for.
        """
        self._waiting.append(wake)
        # Credit that came before the waiter was registered woke nobody: checked again.
        return self.is_full()
