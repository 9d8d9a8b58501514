"""Fakes of what the senders of frames need, without a port."""

from __future__ import annotations

from typing import Any

from erlang_port.etf import decoder
from erlang_port.runtime.ticker import Tickable, Ticker


class FakeFrameWriter:
    """Keeps the frames that it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def put(self, buffers: list[Any], size: int) -> None:
        frame = b"".join(buffers)
        assert len(frame) == size
        assert int.from_bytes(frame[:4], "big") == size - 4
        self.frames.append(frame)


class FakeTicker(Ticker):
    """Ticks when a test says so."""

    def __init__(self) -> None:
        self.active: set[Tickable] = set()

    def add(self, ticked: Tickable) -> None:
        self.active.add(ticked)

    def discard(self, ticked: Tickable) -> None:
        self.active.discard(ticked)

    def tick(self) -> None:
        for ticked in tuple(self.active):
            ticked.tick()


def payload(frame: bytes) -> Any:
    """What a frame with a term says."""
    return decoder.decode(frame, 6 + frame[5])
