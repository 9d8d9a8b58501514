"""Streams without a port: a context that keeps the frames, and a node that takes values."""

from __future__ import annotations

import struct
import threading
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

from erlang_port import reasons
from erlang_port.context import Request
from erlang_port.etf import decoder
from erlang_port.etf.encoder import Encoder
from erlang_port.requests.stream import Stream
from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.interrupt import InterruptibleRegion
from erlang_port.wire import frames
from erlang_port.wire.frames import StreamOptions
from fakes import FakeTicker
from port import PATIENCE, PREFIX


class NobodyReads:
    """A reader that no stream takes over."""

    lessee: object = None

    def lease(self, stream: object) -> None:
        """It stays with the threads."""

    def release(self, stream: object) -> None:
        """It is there already."""


class ThreadForEach:
    """Threads that start at once."""

    def submit(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work).start()


class NodeClient:
    """What is out of one stream, and whether that is more than may be."""

    def __init__(self, options: StreamOptions) -> None:
        self.options = options
        self.change = threading.Condition()
        #: Values and bytes of each frame that is out.
        self.out: deque[tuple[list[Any], int]] = deque()
        self.values: list[Any] = []
        self.taken = [0, 0]
        self.demand = options.demand
        self.terminal: Any = None
        #: How often the stream said that it waits for the window.
        self.waiting = 0
        self.wrong: list[str] = []

    def event(self, kind: int, payload: bytes) -> None:
        with self.change:
            if self.terminal is not None:
                self.wrong.append("something came after the end")
            _, _, event = decoder.decode(payload, 0, "bytes" if self.options.format else "str")
            if kind == frames.LAST:
                self.terminal = event
            elif event == "waiting":
                self.waiting += 1
            else:
                tag, value = event
                self._came([value] if tag == "data" else list(value), len(payload))
            self.change.notify_all()

    def _came(self, values: list[Any], size: int) -> None:
        self.values += values
        self.out.append((values, size))
        options = self.options
        count = sum(len(frame) for frame, _ in self.out)
        total = sum(size for _, size in self.out)
        if not values:
            self.wrong.append("an empty frame")
        if count > options.window:
            self.wrong.append(f"{count} values are out")
        if total > options.window_bytes and count > 1:
            self.wrong.append(f"{total} bytes are out")
        if 0 <= self.demand < len(self.values):
            self.wrong.append("more than was asked for")
        if 0 <= options.take < len(self.values):
            self.wrong.append("more than was to be taken")
        if 0 <= options.batch < len(values):
            self.wrong.append("more than a batch")

    def take(self, count: int) -> tuple[int, int, int]:
        """The owner takes `count` frames: the credit for the stream."""
        with self.change:
            for _ in range(min(count, len(self.out))):
                values, size = self.out.popleft()
                self.taken[0] += len(values)
                self.taken[1] += size
            return self.taken[0], self.taken[1], self.demand

    def wait(self, condition: Callable[[], bool]) -> None:
        """Returns when it holds; it is checked whenever something comes."""
        with self.change:
            assert self.change.wait_for(condition, PATIENCE), (self.values[-3:], self.terminal)


class StreamContext:
    """As much of a worker's context as streams use."""

    #: How values are encoded: one of `encoder.ways`, by default the first.
    way: str | None = None

    def __init__(self, node: NodeClient) -> None:
        self.node = node
        self.ticker = FakeTicker()
        self.receiver = NobodyReads()
        self.threads = ThreadForEach()
        self.encodings = 0
        self._local = threading.local()

    @cached_property
    def loop(self) -> EventLoop:
        """An event loop, for those that need one; `close` ends it."""
        return EventLoop(self.region, self._failed, lambda: None)

    def close(self) -> None:
        self.loop.close(PATIENCE)
        assert self.loop._loop is not None
        self.loop._loop.close()

    def _failed(self, error: BaseException) -> None:
        self.node.wrong.append(f"the loop failed: {error!r}")

    def encoder(self) -> Encoder:
        self.encodings += 1
        return Encoder(way=self.way)

    def region(self) -> InterruptibleRegion:
        try:
            return self._local.region  # type: ignore[no-any-return]
        except AttributeError:
            region = self._local.region = InterruptibleRegion()
            return region

    def put(self, buffers: list[Any], size: int, wait: bool) -> None:
        frame = b"".join(buffers)
        assert struct.unpack_from(">I", frame) == (len(frame) - 4,)
        assert len(frame) == size + len(buffers[0])
        self.node.event(frame[4], frame[6 + frame[5] :])

    def put_later(self, buffers: list[Any], size: int) -> None:
        self.put(buffers, size, False)

    def end(self, _request: Request, kind: int, buffers: list[Any]) -> None:
        self.node.event(kind, b"".join(buffers))

    def reason(self, error: BaseException, with_traceback: bool) -> bytes:
        return Encoder().encode(reasons.reason(error, with_traceback))[1:]


def make_stream(context: StreamContext, chosen: StreamOptions) -> Stream:
    """A stream that has no runner yet."""
    return Stream(context, context.end, b"address", chosen, 0)  # type: ignore[arg-type]


def options(
    window: int = 1024,
    window_bytes: int = 4 << 20,
    batch: int = -1,
    take: int = -1,
    demand: int = -1,
    form: int = 0,
) -> StreamOptions:
    return StreamOptions(window, window_bytes, batch, take, demand, form, PREFIX, b"")
