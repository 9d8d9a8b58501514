"""Who reads: any idle thread, or for a while the thread of a stream at full speed, or the loop's.

A stream that yields fast waits for credit many times a second. Were another thread to
read the credit, each of these would cost two hand-overs of the interpreter lock. So such
a stream reads for itself, between its frames and while it waits; what it reads that
others are to do is handed to them. It gives that up when it waits for long, when it
slows down or ends, and the ticker takes it away when the generator does not yield.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from erlang_port.wire.frame_reader import FrameReader
from erlang_port.wire.poller import Poller

Work = Callable[[], None]
Dispatch = Callable[[bytes], Work | None]


class Receiver:
    """Reads and dispatches, one thread at a time."""

    def __init__(
        self,
        frame_reader: FrameReader,
        poller: Poller,
        dispatch: Dispatch,
        on_end: Callable[[], None],
        submit: Callable[[Work], None],
    ) -> None:
        self._frame_reader = frame_reader
        #: What is read.
        self.fd = frame_reader.fd
        self._poller = poller
        self._dispatch = dispatch
        self._on_end = on_end
        #: What a stream reads and others are to do goes there.
        self._submit = submit
        #: Held while frames are dispatched: they are, in the order of their arrival.
        self._lock = Lock()
        #: The stream that reads, or the `LoopReader`, if it is not for any idle thread to do.
        self.lessee: object = None

    def read(self) -> list[Work]:
        """Dispatches what has come; returns what is left to be done."""
        with self._lock:
            try:
                found = self._frame_reader.frames()
            except (EOFError, OSError):
                self._end()
                return []
            if len(found) == 1:
                work = self._dispatch(found[0])
                return [] if work is None else [work]
            return [work for frame in found if (work := self._dispatch(frame)) is not None]

    def _end(self) -> None:
        if self.lessee is not None:
            self.lessee = None
            self._poller.resume()
        self._on_end()

    def lease(self, lessee: object) -> None:
        """From now on `lessee` reads, unless another one does."""
        if self.lessee is None and self._lock.acquire(blocking=False):
            if self.lessee is None:
                self.lessee = lessee
                self._poller.pause()
            self._lock.release()

    def release(self, lessee: object) -> None:
        """Any idle thread may read again."""
        if self.lessee is lessee:
            with self._lock:
                if self.lessee is lessee:
                    self.lessee = None
                    # What has come meanwhile opens the poller at once (epoll_ctl(2)).
                    self._poller.resume()

    def read_here(self, seconds: float) -> bool:
        """Reads on the lessee's own thread; false when nothing came within `seconds`."""
        if seconds and not self._poller.poll(seconds):
            return False
        for work in self.read():
            self._submit(work)
        return True
