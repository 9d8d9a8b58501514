"""Items of one kind: lists of terms, or bytes, in order."""

from __future__ import annotations

import pytest

from erlang_port.batching import RUN_LENGTH
from erlang_port.node import channel
from erlang_port.node.channel import Channel
from erlang_port.wire import frames
from fakes import FakeFrameWriter, FakeTicker, payload


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(channel, "time", clock)
    return clock


def test_bytes_are_joined(clock):
    frame_writer, ticker = FakeFrameWriter(), FakeTicker()
    lines = Channel(frames.OUTPUT, frame_writer.put, ticker, 1000, is_list=False)
    expected = b""
    for number in range(2 * RUN_LENGTH):
        line = b"line %d\n" % number
        expected += line
        lines.put([line], len(line))
    lines.flush()
    assert all(frame[4:6] == bytes([frames.OUTPUT, 0]) for frame in frame_writer.frames)
    assert b"".join(frame[6:] for frame in frame_writer.frames) == expected
    assert len(frame_writer.frames) < 10


def test_terms_are_listed(clock):
    frame_writer, ticker = FakeFrameWriter(), FakeTicker()
    records = Channel(frames.LOG, frame_writer.put, ticker, 1000)
    for number in range(20):
        records.put([b"a", bytes([number])], 2)
    ticker.tick()
    assert [term for frame in frame_writer.frames for term in payload(frame)] == list(range(20))


def test_one_that_comes_alone_leaves_at_once(clock):
    frame_writer, ticker = FakeFrameWriter(), FakeTicker()
    lines = Channel(frames.OUTPUT, frame_writer.put, ticker, 1000, is_list=False)
    for number in range(10):
        clock.now += 1
        lines.put([b"x\n"], 2)
        assert len(frame_writer.frames) == number + 1
    assert lines.window.sent == 20
    assert lines.window.is_full() is False


def test_the_ticker_is_let_go(clock):
    frame_writer, ticker = FakeFrameWriter(), FakeTicker()
    lines = Channel(frames.OUTPUT, frame_writer.put, ticker, 1000, is_list=False)
    for _ in range(10):
        lines.put([b"x\n"], 2)
    assert ticker.active
    ticker.tick()
    ticker.tick()
    assert not ticker.active
    assert b"".join(frame[6:] for frame in frame_writer.frames) == b"x\n" * 10
