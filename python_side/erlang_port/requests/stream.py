"""What sync and async streams share: the way from values to frames, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from erlang_port.errors import Cancelled
from erlang_port.etf.formats import encode_json, encode_msgpack
from erlang_port.requests.window import Window
from erlang_port.wire import frames

if TYPE_CHECKING:
    from erlang_port.etf.encoder import Encoder
    from erlang_port.worker import Worker

#: The most values in one frame. More cost latency and memory at both ends, fewer cost
#: frames: with 256 integers a frame costs under 10 ns for each.
RUN_LENGTH = 256

#: The most encoded bytes in one frame, but for the last value. A larger number holds
#: other streams' frames back for longer, a smaller one costs system calls.
RUN_BYTES = 64 * 1024

#: A window of fewer values than four runs is filled in four runs, so that one is taken
#: while the next is made.
RUNS_PER_WINDOW = 4

#: What a list takes beside its elements.
_LIST_BYTES = 6
_DATA = b"h\x02w\x04data"
_BATCH = b"h\x02w\x05batch"
_DONE = b"w\x04done"
_WAITING = b"w\x07waiting"
ERROR = b"h\x02w\x05error"

#: In the order of frames.FORMATS.
_FORMATTERS: tuple[Callable[[Any], bytes] | None, ...] = (None, encode_msgpack, encode_json)


class Stream:
    """One stream: its options, its window and how its frames are made.

    `lock` guards the window and who sends: frames of one stream leave in order.
    """

    is_cancelled = False
    is_ended = False
    #: Its place among the streams of the worker, by when they came.
    order = 0
    has_sent = False
    #: Whether the node knows that a frame waits for room.
    _waiting_sent = False

    def __init__(
        self, program: Worker, address: bytes, options: frames.StreamOptions, flags: int
    ) -> None:
        self.program = program
        self.address = address
        self.traceback = bool(flags & frames.FLAG_TRACEBACK)
        self.window = Window(options.window, options.window_bytes, options.demand)
        self.left = options.take
        self.lock = threading.Lock()
        self.prefix = options.prefix
        self.owner = options.owner
        self._format = _FORMATTERS[options.format]
        longest = RUN_LENGTH if options.batch < 0 else options.batch
        self.longest_run = max(1, min(longest, options.window // RUNS_PER_WINDOW))
        self._data_prefix = options.prefix + _DATA
        self._batch_prefix = options.prefix + _BATCH
        self.run_bytes = min(
            RUN_BYTES, options.window_bytes - len(self._batch_prefix) - _LIST_BYTES
        )
        if self.run_bytes <= 0:
            self.longest_run = 1

    def inherit_from(self, stream: Stream) -> None:
        """Goes on where another kind of stream found that it is this kind."""
        self.traceback = stream.traceback
        self.window = stream.window
        self.order = stream.order

    # What the node asks for.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """The owner has taken and asked for so much."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Ends the stream as soon as may be; the owner has its answer already."""
        raise NotImplementedError

    # Frames.

    def available(self) -> int:
        """How many values may be yielded now: by the window, the demand and `take`."""
        room = self.window.available()
        return min(room, self.left) if self.left >= 0 else room

    def fits(self, size: int) -> bool:
        """Whether a frame of so many bytes may leave now.

        The node is told of one that may not: it looks at its owner when a window is half
        used up, and cannot know that what is left is too small for what comes next.
        """
        if self.window.fits(size):
            return True
        if not self._waiting_sent:
            self._waiting_sent = True
            size = len(self.prefix) + len(_WAITING)
            header = frames.header(frames.EVENT, self.address, size)
            self.program.put([header, self.prefix, _WAITING], size, False)
        return False

    def frame(self, values: Sequence[Any]) -> tuple[list[Any], int, int, Exception | None]:
        """As many values as make one frame: buffers, bytes, values, and what stopped it."""
        encoder = self.program.encoder()
        error: Exception | None = None
        if self._format is None and len(values) == 1:
            return self._lone_frame(encoder, values[0])
        if self._format is not None:
            values, error = self._formatted(values)
        buffers: list[Any] = []
        count = 1
        try:
            if len(values) == 1:
                buffers = [self._data_prefix, *encoder.parts(values[0])]
            elif values:
                body, count, failed = encoder.encode_run(values, 0, self.run_bytes)
                if count > 1 and len(body) + len(self._batch_prefix) > self.window.max_bytes:
                    # Its last value would take the frame past the whole window.
                    values = values[: count - 1]
                    body, count, failed = encoder.encode_run(values, 0, self.run_bytes)
                    error = None
                error = failed or (error if count == len(values) else None)
                if count:
                    buffers = [self._batch_prefix, body]
        except Exception as raised:
            error = raised
        if not buffers:
            return [], 0, 0, error
        size = sum(map(len, buffers))
        buffers.insert(0, frames.header(frames.EVENT, self.address, size))
        return buffers, size, count, error

    def _lone_frame(
        self, encoder: Encoder, value: Any
    ) -> tuple[list[Any], int, int, Exception | None]:
        try:
            parts = encoder.parts(value)
            size = len(self._data_prefix) + (
                len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
            )
            header = frames.header(frames.EVENT, self.address, size)
        except Exception as error:
            return [], 0, 0, error
        return [header, self._data_prefix, *parts], size, 1, None

    def _formatted(self, values: Sequence[Any]) -> tuple[list[bytes], Exception | None]:
        """As many values as may fill a frame."""
        formatted: list[bytes] = []
        size = 0
        assert self._format is not None
        for value in values:
            try:
                formatted.append(self._format(value))
            except Exception as raised:
                return formatted, raised
            size += len(formatted[-1])
            if size > self.run_bytes:
                break
        return formatted, None

    def sent(self, count: int, size: int) -> None:
        """A frame is on its way."""
        self.window.send(count, size)
        self._waiting_sent = False
        if self.left >= 0:
            self.left -= count

    # The end.

    def reason(self, error: BaseException) -> bytes:
        """What the owner is told of an exception. Calls its `__str__`: that is user code."""
        if self.is_cancelled:
            error = Cancelled()
        return self.program.reason(error, self.traceback)

    def finish(self, reason: bytes | None) -> None:
        """Sends the terminal event, once, and forgets the stream."""
        with self.lock:
            if self.is_ended:
                return
            self.is_ended = True
        buffers = [self.prefix, _DONE] if reason is None else [self.prefix, ERROR, reason]
        self.program.ended(self, frames.LAST, buffers)
