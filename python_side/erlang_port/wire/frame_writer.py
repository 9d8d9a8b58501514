"""The way out: whole frames from any thread, one writer at a time.

Whoever has a frame queues it and, unless somebody is writing already, writes all that is
queued. So there is no thread of its own to wake, frames of many threads share a system
call, and a thread that must not wait for others (the reader, the event loop) never does. Each
of them does wait in `write` while the pipe is full.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

Buffer = bytes | bytearray | memoryview

#: Frames are joined for one write up to this size. A larger number copies more, a
#: smaller one costs more system calls. A pipe holds 64 KiB.
JOIN_BYTES = 64 * 1024

#: The most buffers that one writev takes everywhere (IOV_MAX is 1024 on Linux and macOS).
MAX_BUFFERS = 512


class FrameWriter:
    """The only object that writes to the port."""

    def __init__(self, fd: int, on_broken: Callable[[], None]) -> None:
        self._fd = fd
        self._on_broken = on_broken
        self._queue: deque[tuple[int, Sequence[Buffer]]] = deque()
        self._writing = Lock()

    def put(self, buffers: Sequence[Buffer], size: int) -> None:
        """Sends one frame of `size` bytes; does not wait for another thread's write."""
        if not self._write_alone(buffers, size):
            self._queue.append((size, buffers))
        if self._queue:
            self.write_queued()

    def _write_alone(self, buffers: Sequence[Buffer], size: int) -> bool:
        """Writes a frame where nothing is queued: the common case. False otherwise."""
        if self._queue or size > JOIN_BYTES or not self._writing.acquire(False):
            return False
        try:
            if self._queue:
                return False
            self._write(b"".join(buffers))
            return True
        finally:
            self._writing.release()

    def put_later(self, buffers: Sequence[Buffer], size: int) -> None:
        """Queues one frame of `size` bytes, for `write_queued` or for whoever writes before."""
        self._queue.append((size, buffers))

    def write_queued(self) -> None:
        """Sends what is queued; does not wait for another thread's write."""
        while self._queue and self._writing.acquire(blocking=False):
            try:
                self._write_queue()
            finally:
                self._writing.release()

    def put_and_wait(self, buffers: Sequence[Buffer], size: int) -> None:
        """The same, from a thread that may wait: it is held back while others write."""
        if not self._write_alone(buffers, size):
            self._queue.append((size, buffers))
            self.wait()
        elif self._queue:
            self.write_queued()

    def wait(self, seconds: float = -1) -> bool:
        """What was put before is written when this returns; from a thread that may wait.

        False when others wrote for longer than `seconds`.
        """
        if not self._writing.acquire(timeout=seconds):
            return False
        try:
            self._write_queue()
        finally:
            self._writing.release()
        # What others have queued since the last check would otherwise stay there.
        self.write_queued()
        return True

    def _write_queue(self) -> None:
        queue = self._queue
        while queue:
            size, buffers = queue.popleft()
            if size > JOIN_BYTES:
                self._write_large(buffers)
                continue
            together = list(buffers)
            while queue and len(together) < MAX_BUFFERS:
                size += queue[0][0]
                if size > JOIN_BYTES:
                    break
                together += queue.popleft()[1]
            self._write(b"".join(together) if len(together) > 1 else together[0])

    def _write(self, data: Buffer) -> None:
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                data = memoryview(data)[written:]
                written = os.write(self._fd, data)
        except OSError:
            # The node is gone or has closed the port; the reader sees that, too.
            self._on_broken()

    def _write_large(self, buffers: Sequence[Buffer]) -> None:
        views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
        try:
            while views:
                written = os.writev(self._fd, views[:MAX_BUFFERS])
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]
        except OSError:
            self._on_broken()

    def write_final(self, frame: Buffer, seconds: float) -> None:
        """Writes a frame before the process ends, if others stop writing within `seconds`."""
        if self._writing.acquire(timeout=seconds):
            self._write(frame)
