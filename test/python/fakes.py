"""Fakes of what the senders of frames need: a program without a port."""

from __future__ import annotations

from typing import Any

from erlang_port.etf import decoder
from erlang_port.etf.encoder import Encoder


class FakeOutbox:
    """Keeps the frames that it gets."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def put(self, buffers: list[Any], size: int) -> None:
        frame = b"".join(buffers)
        assert len(frame) == size
        assert int.from_bytes(frame[:4], "big") == size - 4
        self.frames.append(frame)


class FakeTicker:
    """Ticks when it is told to."""

    def __init__(self) -> None:
        self.hot: set[Any] = set()

    def add(self, ticked: Any) -> None:
        self.hot.add(ticked)

    def discard(self, ticked: Any) -> None:
        self.hot.discard(ticked)

    def tick(self) -> None:
        for ticked in tuple(self.hot):
            ticked.tick()


class FakeProgram:
    """Only what messages and channels use."""

    def __init__(self) -> None:
        self.frame_writer = FakeOutbox()
        self.ticker = FakeTicker()
        self._encoder = Encoder()

    def encoder(self) -> Encoder:
        return self._encoder


def payload(frame: bytes) -> Any:
    """What a frame with a term says."""
    return decoder.decode(frame, 6 + frame[5])
