"""Messages to Erlang processes, queued to leave: one by one, or in runs when they come fast.

A message that comes alone leaves at once. Of those that come in quick succession the first
leave one by one and the rest in runs, each when it is full or at the next tick. Numbers and
short texts, which nobody can change meanwhile, are encoded when their run leaves, all that go
to the same process as one list; everything else when it is sent. Whoever sends a frame that
must not overtake a message flushes first.
"""

from __future__ import annotations

from collections.abc import Callable

from erlang_port.batching import RUN_BYTES, RUN_LENGTH
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.terms import Atom
from erlang_port.hints import Any, Final
from erlang_port.node.channel import Channel, Put
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire import frames

#: Encoded bytes that may be under way. A larger number costs memory in the node when it is
#: busy, a smaller one makes Python code wait sooner.
LIMIT: Final = 8 * 1024 * 1024

#: Texts up to this many bytes are encoded late.
_SHORT: Final = 1024
_NUMBERS: Final = frozenset((int, float, bool, type(None), Atom))

_PAIR: Final = b"h\x02"
_RUN: Final = b"h\x03"
_RUN_TAG: Final = b"w\x03run"


def is_fixed(term: Any) -> bool:
    """Whether a term may be encoded later: it cannot change, and encoding it cannot fail."""
    kind = type(term)
    if kind in _NUMBERS:
        return True
    if kind is str:
        return len(term) <= _SHORT and term.isascii()
    return kind is bytes and len(term) <= _SHORT


class Messages(Channel):
    """All messages of a worker, in the order in which they were sent.

    An entry is an address, a term and None, or an address, encoded buffers and their size.
    """

    def __init__(
        self, put: Put, ticker: Ticker, encoder: Callable[[], Encoder], limit: int = LIMIT
    ) -> None:
        super().__init__(frames.SEND, put, ticker, limit)
        self._encoder = encoder

    def put_fixed(self, to: bytes, term: Any) -> bool:
        """Queues a term that `is_fixed`; false if the caller has to `put_term` it.

        The caller flushes if the channel is not active by now: the ticker empties the queue once
        more after it has said that it stops, so one of the two finds the term there.
        """
        if self.is_active and len(self._queue) < RUN_LENGTH:
            self._queue.append((to, term, None))
            return True
        return False

    def put_term(self, to: bytes, term: Any, size: int | None) -> None:
        """Sends a message: a fixed term, or encoded buffers of `size` bytes.

        Raises frames.FrameTooLargeError.
        """
        self._put_entry((to, term, size), size or 0)

    # The lock is held.

    def _next(self, available: int | None) -> list[Any] | None:
        to, term, size = self._queue[0]
        if size is None:
            self._queue.popleft()
            return self._fixed(to, term)
        if available is not None and size > available:
            return None
        self._queue.popleft()
        return [_PAIR, to, *term]

    def _fixed(self, to: bytes, term: Any) -> list[Any]:
        """A term, and those for the same process that follow it."""
        queue = self._queue
        encoder = self._encoder()
        run = [term]
        while queue and len(run) < RUN_LENGTH:
            other, term, size = queue[0]
            if size is not None or (other is not to and other != to):
                break
            queue.popleft()
            run.append(term)
        if len(run) == 1:
            return [_PAIR, to, *encoder.buffers(run[0])]
        body, count, error = encoder.encode_run(run, 0, RUN_BYTES)
        if error is not None:
            # Cannot be, see is_fixed; a lost message is better than a queue that stands still.
            import logging

            logging.getLogger(__name__).error("a message was lost", exc_info=error)
            del run[count]
        for term in reversed(run[count:]):
            queue.appendleft((to, term, None))
        return [_RUN, to, _RUN_TAG, body]
