"""What requests share: the ways out of the worker, its threads, and its encoders."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import local

from erlang_port import reasons
from erlang_port.errors import Cancelled, NotAllowed
from erlang_port.etf.encoder import Encoder
from erlang_port.hints import Any, Protocol
from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.regions import Regions
from erlang_port.runtime.thread_pool import ThreadPool
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire import frames
from erlang_port.wire.frame_writer import FrameWriter
from erlang_port.wire.receiver import Receiver

#: The reason where there is no memory to say more.
_NO_MEMORY = b"h\x02m\0\0\0\x0bMemoryErrorm\0\0\0\0"


class Request(Protocol):
    """A stream, a call or an exec that is under way."""

    address: bytes
    is_cancelled: bool
    is_ended: bool
    #: Whether it is a stream: the node counts them apart.
    is_stream: bool
    #: The I/O device that it prints to; none is the node's `user`.
    output: bytes
    #: Whether it has one of the slots that `max_threads` bounds.
    has_slot: bool
    #: Whether it has sent messages, which must arrive before its reply.
    has_sent: bool

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """The sums of what the owner has taken and asked for."""

    def cancel(self) -> None:
        """Ends it as soon as may be; whoever made it has its answer already."""


#: Sends the last frame of a request, of one kind, and forgets the request.
EndRequest = Callable[[Request, int, list[Any]], None]


class WorkerContext:
    """What every request uses. It knows neither the requests nor the node client."""

    def __init__(
        self,
        frame_writer: FrameWriter,
        ticker: Ticker,
        threads: ThreadPool,
        loop: EventLoop,
        receiver: Receiver,
        regions: Regions,
        none: str,
    ) -> None:
        self.frame_writer = frame_writer
        self.ticker = ticker
        self.threads = threads
        self.loop = loop
        self.receiver = receiver
        self.regions = regions
        #: The calling thread's regions of user code.
        self.region = regions.current
        self._none = none
        self._local = local()
        #: What requests that are cancelled end with, if it is not that.
        self.cancelled_reason = b"w\x09cancelled"
        #: Sends the messages that wait for others to share a frame.
        self.flush_messages: Callable[[], None] = _nothing
        #: Sends what was printed for an I/O device, before the request ends that has printed it.
        self.flush_output: Callable[[bytes], None] = _nothing
        #: In a forked child: what ends it.
        self.end_child: Callable[[], None] | None = None

    def encoder(self) -> Encoder:
        """The calling thread's encoder."""
        try:
            return self._local.encoder  # type: ignore[no-any-return]
        except AttributeError:
            encoder = self._local.encoder = Encoder(self._none)
            return encoder

    def send(self, kind: int, address: bytes, buffers: list[Any]) -> None:
        """Sends a frame; from any thread.

        Raises frames.FrameTooLargeError.
        """
        size = sum(map(len, buffers))
        header = frames.header(kind, address, size)
        self.frame_writer.put([header, *buffers], size + len(header))

    def put(self, buffers: list[Any], size: int, wait: bool) -> None:
        """Sends a frame of `size` bytes beside its header, which is the first buffer."""
        size += len(buffers[0])
        if wait:
            self.frame_writer.put_and_wait(buffers, size)
        else:
            self.frame_writer.put(buffers, size)

    def put_later(self, buffers: list[Any], size: int) -> None:
        """The same for a frame that is written when the turn of the event loop has ended."""
        self.frame_writer.put_later(buffers, size + len(buffers[0]))

    def reason(self, error: BaseException, with_traceback: bool) -> bytes:
        """An exception as an encoded term. Calls its `__str__`: that is user code."""
        if self.end_child is not None:
            self.end_child()  # While the error is being handled.
        if isinstance(error, NotAllowed):
            return b"w\x0bnot_allowed"
        if isinstance(error, Cancelled):
            return self.cancelled_reason
        try:
            _log_failure(error)
            return self.encoder().encode(reasons.reason(error, with_traceback))[1:]
        except MemoryError:
            return _NO_MEMORY


def _log_failure(error: BaseException) -> None:
    """Logs its traceback, at level debug."""
    logging: Any = sys.modules.get("logging")
    if hasattr(logging, "getLogger"):  # Nobody wants to see records otherwise.
        logging.getLogger("erlang.requests").debug("a request failed", exc_info=error)


def _nothing(_device: bytes = b"") -> None:
    """Nothing was sent yet."""
