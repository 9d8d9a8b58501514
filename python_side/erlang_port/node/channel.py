"""Small things that a worker sends by itself, many to a frame when they come fast.

An item that comes alone leaves at once. Of items that come in quick succession, the
first leave one by one and the rest in runs, each when it is full or at the next tick.
Whoever sends a frame that must not overtake an item flushes the channel first.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from erlang_port.node.byte_window import ByteWindow
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire import frames

Put = Callable[[list[Any], int], None]

#: Items that come faster than this, one after another, are sent in runs, in seconds. The
#: numbers are those of sync_stream.py, for the same reasons.
FAST_SECONDS = 0.0002
FAST_ITEMS = 3

#: The most items and bytes in one frame, but for the last item; as in stream.py.
RUN_LENGTH = 256
RUN_BYTES = 64 * 1024

_LIST_HEADER = struct.Struct(">BBI")


class Channel:
    """One kind of frame, its items in order.

    `is_list` says whether the payload is a list of terms or the items' bytes themselves.
    """

    def __init__(
        self, kind: int, put: Put, ticker: Ticker, limit: int, is_list: bool = True
    ) -> None:
        self.room = ByteWindow(limit)
        self._kind = kind
        self._put = put
        self._ticker = ticker
        self._is_list = is_list
        # Re-entrant, because a finalizer or a signal handler may send while its thread
        # is sending.
        self._lock = threading.RLock()
        self._items: list[Any] = []
        self._count = 0
        self._bytes = 0
        self._last = 0.0
        self._streak = 0
        self._is_active = False
        #: Items that are not yet with the frame_writer; more than `_count` while they are put.
        self._held = 0

    def put(self, parts: list[Any], size: int) -> None:
        """Sends one item of `size` bytes; the order of the calls is the order of arrival.

        Raises frames.FrameTooLargeError.
        """
        with self._lock:
            if size >= RUN_BYTES:
                self._flush()
            self._items += parts
            self._count += 1
            self._held += 1
            self._bytes += size
            now = time.monotonic()
            self._streak = self._streak + 1 if now - self._last < FAST_SECONDS else 0
            self._last = now
            if self._streak < FAST_ITEMS or self._bytes >= RUN_BYTES or self._count >= RUN_LENGTH:
                self._flush()
            elif not self._is_active:
                self._is_active = True
                self._ticker.add(self)

    def flush(self) -> None:
        """What was put before is with the frame_writer when this returns."""
        if self._held:
            with self._lock:
                self._flush()

    def tick(self) -> None:
        """Called every tick while items come fast."""
        if not self._lock.acquire(blocking=False):
            return  # Whoever holds it sends.
        try:
            if self._count:
                self._flush()
            else:
                self._is_active = False
                self._ticker.discard(self)
        finally:
            self._lock.release()

    def _flush(self) -> None:
        count, size = self._count, self._bytes
        if count == 0:
            return
        buffers, self._items = self._items, []
        self._count = self._bytes = 0
        try:
            if self._is_list:
                buffers.insert(0, _LIST_HEADER.pack(131, 108, count))
                buffers.append(b"j")
                size += 7
            buffers.insert(0, frames.header(self._kind, b"", size))
            self.room.sent += size
            self._put(buffers, size + len(buffers[0]))
        finally:
            self._held -= count
