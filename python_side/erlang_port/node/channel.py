"""Small things that a worker sends by itself, many to a frame when they come fast.

An item that comes alone leaves at once. Of items that come in quick succession, the
first leave one by one and the rest in runs, each when it is full or at the next tick.
Whoever sends a frame that must not overtake an item flushes the channel first.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable
from threading import RLock

from erlang_port.batching import FAST_ITEMS, FAST_SECONDS, RUN_BYTES, RUN_LENGTH
from erlang_port.hints import Any
from erlang_port.node.byte_window import ByteWindow
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire import frames

Put = Callable[[list[Any], int], None]

_LIST_HEADER = struct.Struct(">BBI")

#: What a frame may need beside an item.
_MARGIN = 4096


class Channel:
    """One kind of frame, its items in order.

    The queue is a deque: its ends are safe without the lock, which is held while it is emptied.
    `is_list` says whether the payload is a list of terms or the items' bytes themselves.
    """

    def __init__(
        self,
        kind: int,
        put: Put,
        ticker: Ticker,
        limit: int,
        is_list: bool = True,
        address: bytes = b"",
    ) -> None:
        self.window = ByteWindow(limit)
        #: Whether the ticker empties the queue.
        self.is_active = False
        self._kind = kind
        self._address = address
        self._put = put
        self._ticker = ticker
        self._is_list = is_list
        # Re-entrant, because a finalizer or a signal handler may send while its thread
        # is sending.
        self._lock = RLock()
        self._queue: deque[Any] = deque()
        self._bytes = 0
        self._last = 0.0
        self._streak = 0

    def put(self, buffers: list[Any], size: int) -> None:
        """Sends one item of `size` bytes; the order of the calls is the order of arrival.

        Raises frames.FrameTooLargeError.
        """
        self._put_entry((buffers, size), size)

    def _put_entry(self, entry: Any, size: int) -> None:
        if size > frames.MAX_FRAME - _MARGIN:
            raise frames.FrameTooLargeError(f"a message of {size} encoded bytes is too large")
        with self._lock:
            self._queue.append(entry)
            self._bytes += size
            now = time.monotonic()
            self._streak = self._streak + 1 if now - self._last < FAST_SECONDS else 0
            self._last = now
            if (
                self._streak < FAST_ITEMS
                or self._bytes >= RUN_BYTES
                or len(self._queue) >= RUN_LENGTH
            ):
                self._empty()
            elif not self.is_active:
                self.is_active = True
                self._ticker.add(self)

    def flush(self) -> None:
        """What was put before is with the frame writer when this returns."""
        with self._lock:
            self._empty()

    def tick(self) -> None:
        """Called every tick while items come fast."""
        if not self._lock.acquire(blocking=False):
            return  # Whoever holds it sends.
        try:
            if not self._queue:
                self.is_active = False
                self._ticker.discard(self)
            # Once more: who has put something meanwhile may have seen it active.
            self._empty()
        finally:
            self._lock.release()

    # The lock is held.

    def _empty(self) -> None:
        queue = self._queue
        while queue:
            buffers: list[Any] = []
            count = size = 0
            while queue and size < RUN_BYTES:
                item = self._next(RUN_BYTES - size if size else None)
                if item is None:
                    break
                buffers += item
                size += sum(map(len, item))
                count += 1
            self._send(buffers, count, size)
        self._bytes = 0

    def _next(self, available: int | None) -> list[Any] | None:
        """Takes the next item from the queue; None if it has more bytes than are available."""
        buffers, size = self._queue[0]
        if available is not None and size > available:
            return None
        self._queue.popleft()
        return buffers  # type: ignore[no-any-return]

    def _send(self, buffers: list[Any], count: int, size: int) -> None:
        if self._is_list:
            buffers.insert(0, _LIST_HEADER.pack(131, 108, count))
            buffers.append(b"j")
            size += _LIST_HEADER.size + 1
        header = frames.header(self._kind, self._address, size)
        buffers.insert(0, header)
        self.window.sent += size
        self._put(buffers, size + len(header))
