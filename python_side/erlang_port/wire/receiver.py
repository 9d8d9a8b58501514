"""Reading: frames are dispatched in the order of their arrival, by whichever thread is idle."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from erlang_port.wire.frame_reader import FrameReader

Work = Callable[[], None]
Dispatch = Callable[[bytes], Work | None]


class Receiver:
    """Reads and dispatches, one thread at a time."""

    def __init__(
        self, frame_reader: FrameReader, dispatch: Dispatch, on_end: Callable[[], None]
    ) -> None:
        self._frame_reader = frame_reader
        self._dispatch = dispatch
        self._on_end = on_end
        #: Held while frames are dispatched: they are, in the order of their arrival.
        self._lock = Lock()

    def read(self) -> list[Work]:
        """Dispatches what has come; returns what is left to be done."""
        with self._lock:
            try:
                found = self._frame_reader.frames()
            except (EOFError, OSError):
                self._on_end()
                return []
            if len(found) == 1:
                work = self._dispatch(found[0])
                return [] if work is None else [work]
            return [work for frame in found if (work := self._dispatch(frame)) is not None]
