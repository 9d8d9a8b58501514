"""Messages to Erlang processes, queued to leave: one by one, or in runs when they come fast.

A message that comes alone leaves at once. Of those that come in quick succession the first
leave one by one and the rest in runs, each when it is full or at the next tick. Numbers and
short texts, which nobody can change meanwhile, are encoded when their run leaves, all that go
to the same process as one list; everything else when it is sent. Whoever sends a frame that
must not overtake a message flushes first.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from erlang_port.etf.terms import Atom
from erlang_port.node.byte_window import ByteWindow
from erlang_port.wire import frames

if TYPE_CHECKING:
    from erlang_port.worker import Worker

#: Encoded bytes that may be under way. A larger number costs memory in the node when it is
#: busy, a smaller one makes Python code wait sooner.
LIMIT: Final = 8 * 1024 * 1024

#: Messages that come faster than this, one after another, are sent in runs, in seconds. The
#: numbers are those of sync_stream.py, for the same reasons.
FAST_SECONDS: Final = 0.0002
FAST_MESSAGES: Final = 3

#: The most messages queued, and the most bytes in one frame but for the last message. More
#: cost latency and memory, fewer cost frames.
RUN_LENGTH: Final = 256
RUN_BYTES: Final = 64 * 1024

#: Texts up to this many bytes are encoded late.
_SHORT: Final = 1024
_NUMBERS: Final = frozenset((int, float, bool, type(None), Atom))

_PAIR: Final = b"h\x02"
_RUN: Final = b"h\x03"
_RUN_TAG: Final = b"w\x03run"
_LIST_HEADER = struct.Struct(">BBI")


def is_fixed(term: Any) -> bool:
    """Whether a term may be encoded later: it cannot change, and encoding it cannot fail."""
    kind = type(term)
    if kind in _NUMBERS:
        return True
    if kind is str:
        return len(term) <= _SHORT and term.isascii()
    return kind is bytes and len(term) <= _SHORT


class Messages:
    """All messages of a worker, in the order in which they were sent.

    The queue is a deque: its ends are safe without the lock, which is held while it is emptied.
    An entry is an address, a term and None, or an address, encoded parts and their size.
    """

    def __init__(self, program: Worker, limit: int = LIMIT) -> None:
        self.room = ByteWindow(limit)
        self._program = program
        # Re-entrant, because a finalizer or a signal handler may send while its thread
        # is sending.
        self._lock = threading.RLock()
        self._queue: deque[tuple[bytes, Any, int | None]] = deque()
        self._bytes = 0
        self._last = 0.0
        self._streak = 0
        #: Whether the ticker looks after the queue.
        self.is_active = False

    def put_fixed(self, to: bytes, term: Any) -> bool:
        """Puts a term queued that `is_fixed`; false if the caller has to `put` it.

        The caller flushes if the queue is not hot by now: the ticker looks at the queue once
        more after it has said that it stops, so one of the two finds the term there.
        """
        if self.is_active and len(self._queue) < RUN_LENGTH:
            self._queue.append((to, term, None))
            return True
        return False

    def put(self, to: bytes, term: Any, size: int | None) -> None:
        """Sends a message: a fixed term, or encoded parts of so many bytes.

        Raises frames.FrameTooLargeError.
        """
        if size is not None and size > frames.MAX_FRAME - 4096:
            raise frames.FrameTooLargeError(f"a message of {size} encoded bytes is too large")
        with self._lock:
            self._queue.append((to, term, size))
            self._bytes += size or 0
            now = time.monotonic()
            self._streak = self._streak + 1 if now - self._last < FAST_SECONDS else 0
            self._last = now
            if (
                self._streak < FAST_MESSAGES
                or self._bytes >= RUN_BYTES
                or len(self._queue) >= RUN_LENGTH
            ):
                self._empty()
            elif not self.is_active:
                self.is_active = True
                self._program.ticker.add(self)

    def flush(self) -> None:
        """What was put before is with the frame_writer when this returns."""
        with self._lock:
            self._empty()

    def tick(self) -> None:
        """Called every tick while messages come fast."""
        if not self._lock.acquire(blocking=False):
            return  # Whoever holds it sends.
        try:
            if not self._queue:
                self.is_active = False
                self._program.ticker.discard(self)
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
                to, term, term_size = queue.popleft()
                if term_size is None:
                    parts = self._fixed(to, term)
                elif size and size + term_size > RUN_BYTES:
                    queue.appendleft((to, term, term_size))
                    break
                else:
                    parts = [_PAIR, to, *term]
                buffers += parts
                size += sum(map(len, parts))
                count += 1
            self._send(buffers, count, size)
        self._bytes = 0

    def _fixed(self, to: bytes, term: Any) -> list[Any]:
        """A term, and those for the same process that follow it."""
        queue = self._queue
        encoder = self._program.encoder()
        run = [term]
        while queue and len(run) < RUN_LENGTH:
            other, term, size = queue[0]
            if size is not None or (other is not to and other != to):
                break
            queue.popleft()
            run.append(term)
        if len(run) == 1:
            return [_PAIR, to, *encoder.parts(run[0])]
        body, count, error = encoder.encode_run(run, 0, RUN_BYTES)
        if error is not None:
            # Cannot be, see is_fixed; a lost message is better than a queue that stands still.
            logging.getLogger(__name__).error("a message was lost", exc_info=error)
            del run[count]
        for term in reversed(run[count:]):
            queue.appendleft((to, term, None))
        return [_RUN, to, _RUN_TAG, body]

    def _send(self, buffers: list[Any], count: int, size: int) -> None:
        buffers.insert(0, _LIST_HEADER.pack(131, 108, count))
        buffers.append(b"j")
        size += 7
        header = frames.header(frames.SEND, b"", size)
        buffers.insert(0, header)
        self.room.sent += size
        self._program.frame_writer.put(buffers, size + len(header))
