"""The way in: the gates, and bytes into frames."""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlang_port.wire.frame_reader import CHUNK, FrameReader
from erlang_port.wire.poller import EpollPoller, Poller, PollPoller, make_poller
from port import eventually, shut

GATES = [PollPoller, *([EpollPoller] if hasattr(select, "epoll") else [])]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


@pytest.fixture(params=GATES)
def any_gate(request: pytest.FixtureRequest, pipe: tuple[int, int]) -> Iterator[Poller]:
    os.set_blocking(pipe[0], False)
    made: Poller = request.param(pipe[0])
    yield made
    shut(made)


def test_the_gate_is_the_one_that_the_system_has(pipe: tuple[int, int]) -> None:
    made = make_poller(pipe[0])
    assert isinstance(made, EpollPoller if hasattr(select, "epoll") else PollPoller)
    shut(made)


def test_a_wait_ends_when_nothing_comes(any_gate: Poller) -> None:
    assert any_gate.wait(0.01) is False


def test_an_arrival_opens_it(any_gate: Poller, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert any_gate.wait(5) is True
    os.read(pipe[0], 10)
    assert any_gate.wait(0.01) is False


def test_a_ring_opens_it_once(any_gate: Poller) -> None:
    any_gate.wake()
    assert any_gate.wait(5) is True
    assert any_gate.wait(0.01) is False


def test_the_end_of_the_input_opens_it_for_one_who_reads_to_the_end(
    any_gate: Poller, pipe: tuple[int, int]
) -> None:
    """The last data and the end may come together; a reader stops where the data ends."""
    frame_reader = FrameReader(pipe[0])
    os.write(pipe[1], struct.pack(">I", 4) + b"last")
    os.close(pipe[1])
    assert any_gate.wait(5)
    assert frame_reader.frames() == [b"last"]
    assert any_gate.wait(5)
    with pytest.raises(EOFError):
        frame_reader.frames()


def test_an_arrival_while_it_was_taken_away_opens_it_when_it_is_given_back(
    any_gate: Poller, pipe: tuple[int, int]
) -> None:
    any_gate.pause()
    assert any_gate.poll(0) is False
    os.write(pipe[1], b"x")
    assert any_gate.poll(5) is True
    any_gate.resume()
    assert any_gate.wait(5) is True
    assert os.read(pipe[0], 10) == b"x"


def test_it_rings_while_it_is_taken_away(any_gate: Poller) -> None:
    any_gate.pause()
    any_gate.wake()
    assert any_gate.wait(5) is True


def _waiters(made: Poller, count: int, through: Callable[[], object]) -> list[threading.Thread]:
    def wait() -> None:
        if made.wait(10):
            through()

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_every_arrival_finds_a_thread(any_gate: Poller, pipe: tuple[int, int]) -> None:
    """Whoever gets through reads; so as many arrivals as threads let all of them through."""
    read: list[bytes] = []

    def take() -> None:
        try:
            read.append(os.read(pipe[0], 1))
        except BlockingIOError:
            read.append(b"")

    threads = _waiters(any_gate, 5, take)
    end = time.monotonic() + 10
    while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
        before = len(read)
        os.write(pipe[1], b"x")
        eventually(lambda before=before: len(read) > before or not threads)
    assert len(read) == 5
    for thread in threads:
        thread.join()


def test_a_ring_lets_one_through(any_gate: Poller) -> None:
    through: list[None] = []
    threads = _waiters(any_gate, 3, lambda: through.append(None))
    for expected in range(1, 4):
        any_gate.wake()
        eventually(lambda expected=expected: len(through) == expected)
    for thread in threads:
        thread.join()


# Frames.


def framed(bodies: list[bytes]) -> bytes:
    return b"".join(struct.pack(">I", len(body)) + body for body in bodies)


def _read_on(frame_reader: FrameReader, found: list[bytes]) -> None:
    while True:
        found += map(bytes, frame_reader.frames())


def feed(pieces: list[bytes]) -> list[bytes]:
    """What an frame_reader makes of bytes that come in pieces."""
    read, write = os.pipe()
    frame_reader = FrameReader(read)
    found: list[bytes] = []
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                # No more than a pipe takes: a piece may be longer.
                rest = rest[os.write(write, rest[:32768]) :]
                found += map(bytes, frame_reader.frames())
        os.close(write)
        with pytest.raises(EOFError):
            _read_on(frame_reader, found)
    finally:
        os.close(read)
    return found


SIZES = [0, 1, 3, 4, 5, 1000, CHUNK - 5, CHUNK - 4, CHUNK - 3, CHUNK, CHUNK + 1, 3 * CHUNK]


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_any_size_alone_and_among_others(size: int) -> None:
    assert feed([framed([b"x" * size])]) == [b"x" * size]
    bodies = [b"before", b"x" * size, b"", b"behind"]
    assert feed([framed(bodies)]) == bodies


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    bodies=st.lists(
        st.binary(max_size=30) | st.sampled_from(SIZES).map(lambda size: b"b" * size), max_size=6
    ),
    data=st.data(),
)
def test_frames_are_the_same_however_their_bytes_arrive(
    bodies: list[bytes], data: st.DataObject
) -> None:
    whole = framed(bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert feed(pieces) == bodies


def test_a_large_frame_is_read_in_linear_time() -> None:
    """Four times the bytes may take no sixteen times the time."""

    def seconds(size: int) -> float:
        data = framed([bytes(size)])
        start = time.perf_counter()
        feed([data])
        return time.perf_counter() - start

    small = min(seconds(2_000_000) for _ in range(3))
    large = min(seconds(8_000_000) for _ in range(3))
    assert large < 12 * small


def test_an_end_within_a_frame_is_the_end(pipe: tuple[int, int]) -> None:
    for part in (b"\0", b"\0\0\0\x05abc", struct.pack(">I", CHUNK * 2) + b"x" * 100):
        read, write = os.pipe()
        frame_reader = FrameReader(read)
        os.write(write, part)
        assert frame_reader.frames() == []
        os.close(write)
        with pytest.raises(EOFError):
            frame_reader.frames()
        os.close(read)
