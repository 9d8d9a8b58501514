"""The bytes of the port, taken apart into frames."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlang_port.wire.frame_reader import CHUNK, FrameReader


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


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
    """It takes a few times what reading its pieces alone takes, of this thread's processor time.

    To copy what was there before for each of the 1,000 pieces takes some hundred times as long.
    """
    data = framed([bytes(32_000_000)])
    start = time.thread_time()
    feed([data])
    middle = time.thread_time()
    with open(os.devnull, "wb", buffering=0) as null:
        read, write = os.pipe()
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(write, rest[:32768]) :]
            null.write(os.read(read, 32768))
        os.close(read)
        os.close(write)
    assert middle - start < 20 * (time.thread_time() - middle)


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
