"""Frames: what this side writes and reads is what test/golden/frames.txt says."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from erlang_port.etf import decoder
from erlang_port.wire import frames


class Golden(NamedTuple):
    direction: str
    name: str
    data: bytes
    erlang: str
    python: str


def _read() -> list[Golden]:
    path = Path(__file__).resolve().parents[2] / "golden" / "frames.txt"
    rows = [line.split("\t") for line in path.read_text().splitlines() if line[0] != "#"]
    return [Golden(way, name, bytes.fromhex(data), *rest) for way, name, data, *rest in rows]


GOLDEN = _read()
TO_PYTHON = [golden for golden in GOLDEN if golden.direction == "to_python"]
TO_ERLANG = [golden for golden in GOLDEN if golden.direction == "to_erlang"]

PID = bytes.fromhex("8358770d6e6f6e6f6465406e6f686f73740000004d0000000000000000")
REF = bytes.fromhex("835a0003770d6e6f6e6f6465406e6f686f737400000000000000010000000200000003")
PREFIX = b"\x83h\x03w\x09py_stream" + REF[1:]


def _target(frame: bytes, offset: int) -> tuple[Any, ...]:
    target = frames.read_target(frame, offset)
    arguments, end = decoder.decode_prefix(frame, offset + target.size)
    return target, arguments, decoder.decode(frame, end)


def _stream(frame: bytes, offset: int) -> tuple[Any, ...]:
    options, offset = frames.read_stream(frame, offset)
    return (options, *_target(frame, offset))


def _channel_values(frame: bytes, offset: int) -> tuple[Any, ...]:
    *numbers, offset = frames.read_channel_values(frame, offset)
    return (*numbers, decoder.decode(frame, offset))


def _nothing(frame: bytes, offset: int) -> None:
    assert offset == len(frame)


READERS: dict[int, Callable[[bytes, int], Any]] = {
    frames.SETTINGS: decoder.decode,
    frames.STREAM: _stream,
    frames.CALL: _target,
    frames.EXEC: lambda frame, offset: (frame[offset], frame[offset + 1 :]),
    frames.CANCEL: _nothing,
    frames.CREDIT: frames.read_credit,
    frames.CALLBACK_RESULT: decoder.decode,
    frames.PING: _nothing,
    frames.STACKS: _nothing,
    frames.STOP: _nothing,
    frames.LEVEL: lambda frame, offset: frame[offset],
    frames.ACK: frames.read_ack,
    frames.CHANNEL_VALUES: _channel_values,
    frames.CHANNEL_END: decoder.decode,
    frames.RELEASE: lambda frame, offset: bytes(frame[offset:]),
}


def evaluate(text: str) -> Any:
    names = {**vars(frames), "PID": PID, "REF": REF, "PREFIX": PREFIX}
    return eval(text, names)


@pytest.mark.parametrize("golden", TO_PYTHON, ids=lambda golden: golden.name)
def test_what_the_node_writes_is_read(golden: Golden) -> None:
    frame = golden.data
    assert READERS[frame[0]](frame, 2 + frame[1]) == evaluate(golden.python)


@pytest.mark.parametrize("golden", TO_PYTHON, ids=lambda golden: golden.name)
def test_it_is_read_from_a_bytearray_as_well(golden: Golden) -> None:
    """Long frames are read into one."""
    frame: Any = bytearray(golden.data)
    assert READERS[frame[0]](frame, 2 + frame[1]) == evaluate(golden.python)


@pytest.mark.parametrize("golden", TO_ERLANG, ids=lambda golden: golden.name)
def test_what_is_written_is_what_the_node_reads(golden: Golden) -> None:
    assert evaluate(golden.python) == struct.pack(">I", len(golden.data)) + golden.data


def test_every_kind_is_in_the_list() -> None:
    kinds = {
        value
        for name, value in vars(frames).items()
        if name.isupper() and type(value) is int and not name.startswith("FLAG_")
    } - {frames.FUNCTION, frames.EXPRESSION, frames.MAX_FRAME}
    assert {golden.data[0] for golden in TO_PYTHON} == {kind for kind in kinds if kind < 65} | {
        1,
        2,
    }
    assert {golden.data[0] for golden in TO_ERLANG} == {kind for kind in kinds if kind >= 65}


def test_a_frame_that_is_too_large_for_its_length_is_refused() -> None:
    with pytest.raises(frames.FrameTooLargeError):
        frames.header(frames.EVENT, PID, 1 << 32)
    assert frames.header(frames.EVENT, b"", frames.MAX_FRAME - 2)[:4] == struct.pack(
        ">I", frames.MAX_FRAME
    )


def test_a_target_that_is_cut_is_refused() -> None:
    whole = next(golden.data for golden in TO_PYTHON if golden.name == "call")
    offset = 2 + whole[1]
    names_end = offset + frames.read_target(whole, offset).size
    for end in range(offset, names_end):
        with pytest.raises((frames.FrameError, struct.error)):
            frames.read_target(whole[:end], offset)
