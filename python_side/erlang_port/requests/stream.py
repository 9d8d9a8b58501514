"""What sync and async streams share: the way from values to frames, and the end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import chain
from threading import Lock
from types import NoneType

from erlang_port.batching import RUN_BYTES, RUN_LENGTH
from erlang_port.context import EndRequest, WorkerContext
from erlang_port.errors import Cancelled
from erlang_port.etf.erlpack_input import kinds_of
from erlang_port.etf.formats import encode_json, encode_msgpack
from erlang_port.hints import Any, Protocol
from erlang_port.requests.window import Window
from erlang_port.wire import frames

#: A window of fewer values than four runs is filled in four runs, so that one is taken
#: while the next is made.
RUNS_PER_WINDOW = 4

#: Types whose values cannot change and run no code when they are encoded: they may be
#: encoded together, after the generator has gone on.
FIXED_TYPES: frozenset[type] = frozenset((int, float, bool, NoneType, str, bytes))

_NO_TYPES: frozenset[type] = frozenset()
_ROWS = frozenset((tuple, dict))
_STR_KEYS = frozenset((str,))
_BINARY = struct.Struct(">BI")
_LIST = struct.Struct(">BI")

#: What a list takes beside its elements.
_LIST_BYTES = 6
_DATA = b"h\x02w\x04data"
_BATCH = b"h\x02w\x05batch"
_DONE = b"w\x04done"
_WAITING = b"w\x07waiting"
ERROR = b"h\x02w\x05error"

#: As a stream frame numbers them: terms, MessagePack, JSON.
_FORMATTERS: tuple[Callable[[Any], bytes] | None, ...] = (None, encode_msgpack, encode_json)


class Runner(Protocol):
    """What runs a stream's iterator: a thread, or a task on the event loop."""

    def run(self) -> Any:
        """From the first value to the terminal event."""

    def resume(self) -> None:
        """There is credit, or the stream is cancelled. From any thread."""

    def cancel(self) -> None:
        """The stream is cancelled. From any thread."""

    def end_run(self) -> None:
        """What is held fills a frame: the run ends with this value."""


class _Ended:
    """The runner of a stream that has ended: what the node asks for comes too late."""

    def run(self) -> None:
        """There is nothing to be done, here and below."""

    resume = cancel = end_run = run


_ENDED = _Ended()


class Stream:
    """One stream: its options, its window and how its frames are made.

    Its runner may change: whether a function returns a generator or a coroutine is seen when it
    has been called. Whoever becomes the runner checks the window and `is_cancelled` first.

    `lock` guards the window and who sends: frames of one stream leave in order.

    What is sent is the value at the moment of its `yield`: each value is held by `hold`, which
    encodes at once what could change.
    """

    is_stream = True
    is_cancelled = False
    is_ended = False
    has_slot = False
    #: Names and metadata, see `about.py`.
    about = b""
    #: The I/O device that it prints to; none is the node's `user`.
    output = b""
    runner: Runner
    #: Its number among the streams of the worker, by when they came.
    order = 0
    has_sent = False
    #: Whether the node knows that a frame waits for the window.
    _waiting_sent = False

    def __init__(
        self,
        context: WorkerContext,
        end: EndRequest,
        address: bytes,
        options: frames.StreamOptions,
        flags: int,
    ) -> None:
        self.context = context
        self._end = end
        self.address = address
        self.traceback = bool(flags & frames.FLAG_TRACEBACK)
        self.window = Window(options.window, options.window_bytes, options.demand)
        self.left = options.take
        self.lock = Lock()
        self.prefix = options.prefix
        self.owner = options.owner
        self._format = _FORMATTERS[options.format]
        #: The types of values that may be held as they are while the generator goes on.
        self.fixed_types: frozenset[type] = FIXED_TYPES if self._format is None else _NO_TYPES
        #: The encoded bytes that are held.
        self.held_bytes = 0
        #: Copies a row, so that nobody can change what is held; None if that is of no use.
        self._snapshot: Callable[[Any], Any] | None = None
        self._encode: Callable[[Any], bytes]
        self._encoded_from: int
        longest = RUN_LENGTH if options.batch < 0 else options.batch
        self.longest_run = max(1, min(longest, options.window // RUNS_PER_WINDOW))
        self._data_prefix = options.prefix + _DATA
        self._batch_prefix = options.prefix + _BATCH
        self.run_bytes = min(
            RUN_BYTES, options.window_bytes - len(self._batch_prefix) - _LIST_BYTES
        )
        if self.run_bytes <= 0:
            self.longest_run = 1

    # What the node asks for; from any thread.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """The sums of what the owner has taken and asked for."""
        self.window.credit(taken, taken_bytes, demand)
        self.runner.resume()

    def cancel(self) -> None:
        """Ends the stream as soon as may be; the owner has its answer already."""
        self.is_cancelled = True
        self.runner.cancel()

    # Frames.

    def available(self) -> int:
        """How many values may be yielded now: by the window, the demand and `take`."""
        available = self.window.available()
        return min(available, self.left) if self.left >= 0 else available

    def fits(self, size: int) -> bool:
        """Whether a frame of `size` bytes may leave now.

        The node gets an event for one that may not: it polls the owner when a window is half
        used up, and cannot know that what is left is too small for what comes next.
        """
        if self.window.fits(size):
            return True
        if not self._waiting_sent:
            self._waiting_sent = True
            size = len(self.prefix) + len(_WAITING)
            header = frames.header(frames.EVENT, self.address, size)
            self.context.put([header, self.prefix, _WAITING], size, False)
        return False

    def hold(self, value: Any) -> Any:
        """The value as it is now: itself if it cannot change, a copy, or its encoding in a list.

        Called where the value was yielded, on the generator's own thread, before it goes on.
        What is held is no other list: those are encoded, too.
        """
        kind = type(value)
        fixed = self.fixed_types
        # What is empty has a format of its own where there is one.
        if kind in fixed or (
            kind is tuple and fixed.issuperset(map(type, value)) and (value or fixed)
        ):
            return value
        copy = value
        if kind is dict:
            # Checked is the copy: another thread may change the dictionary now.
            copy = value.copy()
            if (
                fixed.issuperset(map(type, copy.values()))
                and _STR_KEYS.issuperset(map(type, copy))
                and (copy or fixed)
            ):
                return copy
        try:
            if self._snapshot is not None and kind in _ROWS:
                held = self._snapshot(copy)
                if held is not None:
                    return held
            encoded = self._encode(value)[self._encoded_from :]
        except StopIteration as error:
            # It would end the iteration as if nothing had happened (PEP 479).
            raise RuntimeError("encoding a value raised StopIteration") from error
        self.held_bytes += len(encoded)
        if self.held_bytes > self.run_bytes:
            self.runner.end_run()
        return [encoded]

    def prepare_to_hold(self) -> Any:
        """Before the first `hold`, on the thread that iterates: encoders are a thread's own.

        Returns the same as `hold`, compiled, where there is an accelerator.
        """
        form = self._format
        if form is None:
            encoder = self.context.encoder()
            self._encode = encoder.encode
            self._encoded_from = 1  # After the version byte.
            if encoder.way == "erlpack":
                self._snapshot = encoder.snapshot
            return encoder.holder()

        def formatted(value: Any) -> bytes:
            data = form(value)
            return _BINARY.pack(109, len(data)) + data

        self._encode = formatted
        self._encoded_from = 0
        return None

    def frame(
        self, held: list[Any], kinds: set[type] | None = None
    ) -> tuple[list[Any], int, int, Exception | None]:
        """As many held values as make one frame: buffers, bytes, values, and what stopped it.

        `kinds` are the types among them, if they are known.
        """
        if len(held) == 1:
            return self._lone_frame(held[0])
        buffers: list[Any] = []
        count = 0
        error: Exception | None = None
        try:
            kinds = kinds or kinds_of(held)
            body, count, error = self._list_of(held, kinds)
            if count > 1 and len(body) + len(self._batch_prefix) > self.window.max_bytes:
                # Its last value would take the frame past the whole window.
                body, count, error = self._list_of(held[: count - 1], kinds)
            if count:
                buffers = [self._batch_prefix, body]
        except Exception as raised:
            error = raised
        if not buffers:
            return [], 0, 0, error
        size = sum(map(len, buffers))
        buffers.insert(0, frames.header(frames.EVENT, self.address, size))
        return buffers, size, count, error

    def _list_of(self, held: list[Any], kinds: set[type]) -> tuple[bytes, int, Exception | None]:
        """A list of as many held values as fit a frame, as `Encoder.encode_run` makes it."""
        encoder = self.context.encoder()
        together = encoder.encode_held(held, self.run_bytes)
        if together is not None:
            return *together, None
        if list not in kinds:
            if kinds <= _ROWS:
                rows = encoder.encode_rows(held, self.run_bytes)
                if rows is not None:
                    return rows, len(held), None
            return encoder.encode_run(held, 0, self.run_bytes, kinds)
        if len(kinds) == 1:
            # Each holds its encoding.
            encodings = list(chain.from_iterable(held))
            if sum(map(len, encodings)) <= self.run_bytes:
                header = _LIST.pack(108, len(encodings))
                return b"".join([header, *encodings, b"j"]), len(encodings), None
        pieces = []
        size = 0
        error: Exception | None = None
        for value in held:
            try:
                piece = value[0] if type(value) is list else encoder.encode(value)[1:]
            except Exception as raised:
                error = raised
                break
            pieces.append(piece)
            size += len(piece)
            if size > self.run_bytes:
                break
        if not pieces:
            return b"j", 0, error
        return b"".join([_LIST.pack(108, len(pieces)), *pieces, b"j"]), len(pieces), error

    def _lone_frame(self, held: Any) -> tuple[list[Any], int, int, Exception | None]:
        try:
            buffers = held if type(held) is list else self.context.encoder().buffers(held)
            size = len(self._data_prefix) + (
                len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
            )
            header = frames.header(frames.EVENT, self.address, size)
        except Exception as error:
            return [], 0, 0, error
        return [header, self._data_prefix, *buffers], size, 1, None

    def sent(self, count: int, size: int) -> None:
        """A frame is on its way."""
        self.window.send(count, size)
        self._waiting_sent = False
        if self.left >= 0:
            self.left -= count

    # The end.

    def reason(self, error: BaseException) -> bytes:
        """An exception as the owner gets it. Calls its `__str__`: that is user code."""
        if self.is_cancelled:
            error = Cancelled()
        return self.context.reason(error, self.traceback)

    def finish(self, reason: bytes | None) -> None:
        """Sends the terminal event, once, and forgets the stream."""
        with self.lock:
            if self.is_ended:
                return
            self.is_ended = True
        if self.output:
            self.context.flush_output(self.output)
        buffers = [self.prefix, _DONE] if reason is None else [self.prefix, ERROR, reason]
        self._end(self, frames.LAST, buffers)
        # The runner has this stream: without a cycle both go at once, without the collector.
        self.runner = _ENDED
