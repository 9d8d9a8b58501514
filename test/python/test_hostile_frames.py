"""Frames with some bytes changed: the port program answers, ignores them, or leaves and says why.

``HOSTILE_ROUNDS`` in the environment says how many rounds there are, ``HOSTILE_SEED`` which
is the first.
"""

from __future__ import annotations

import os
import random
import struct

import pytest

from erlang_port.etf import decoder
from erlang_port.wire import frames
from port import Worker, credit, encode, expression, frame, stream, target

ROUNDS = int(os.environ.get("HOSTILE_ROUNDS", "25"))
FIRST = int(os.environ.get("HOSTILE_SEED", "20260"))

#: Frames in each round.
FRAMES = 12

#: More than this on stderr is a storm and no reason, in bytes. One traceback through the
#: program takes about 2,000.
STORM = 16_000


def _good() -> list[bytes]:
    """Frames that make sense, and whose requests end by themselves."""
    return [
        stream(b"s", target("builtins", "range", 3)),
        stream(b"t", expression("iter('abc')"), window=1, batch=2, take=2, demand=1),
        credit(b"s", 1, 10),
        frame(frames.CALL, b"c", target("builtins", "len", [1, 2, {"a": 1.5}])),
        frame(frames.CALL, b"d", expression("1 + 1")),
        frame(frames.EXEC, b"e", b"\0pass"),
        frame(frames.CANCEL, b"s"),
        frame(frames.CALLBACK_RESULT, b"\0\0\0\1", encode(("ok", 1))),
        frame(frames.PING),
        frame(frames.LEVEL, b"", b"\x1e"),
        frame(frames.ACK, bytes((frames.SEND,)), struct.pack(">Q", 100)),
    ]


def _changed(good: bytes, choice: random.Random) -> bytes:
    """The frame with a few bytes of it changed, cut off or put in; its length is right."""
    body = bytearray(good[4:])
    for _ in range(choice.randint(1, 3)):
        at = choice.randrange(len(body)) if body else 0
        how = choice.randrange(4)
        if how == 0 and body:
            body[at] ^= 1 << choice.randrange(8)
        elif how == 1 and body:
            body[at] = choice.randrange(256)
        elif how == 2:
            del body[at:]
        else:
            body[at:at] = choice.randbytes(choice.randint(1, 8))
    return struct.pack(">I", len(body)) + bytes(body)


def _read_all(worker: Worker) -> list[int]:
    """The kinds of all that comes until the output ends, which is made of good frames only."""
    kinds = []
    while (found := worker.read()) is not None:
        kind, _, payload = found
        assert frames.READY <= kind <= frames.NOT_RUNNING, found
        if kind in (frames.REPLY, frames.REPLY_AFTER_SENDS, frames.READY, frames.SEND, frames.LOG):
            decoder.decode(payload, 0)
        kinds.append(kind)
    return kinds


def _leaves(worker: Worker, closes: bool = True) -> list[int]:
    """What it sends until it ends; why it ended is on stderr, unless all was well."""
    if closes:
        worker.hang_up()
    kinds = _read_all(worker)
    status = worker.wait()
    assert worker.process.stderr is not None
    said = worker.process.stderr.read()
    assert len(said) < STORM, said
    assert status in (0, 1), said
    if status == 1:
        assert said or frames.FAILED in kinds
        # The reason is the last thing that it sends.
        assert kinds.count(frames.FAILED) <= 1
    return kinds


@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
def test_changed_frames(seed: int) -> None:
    choice = random.Random(seed)
    with Worker() as worker:
        worker.expect(frames.READY)
        try:
            for _ in range(FRAMES):
                worker.write(_changed(choice.choice(_good()), choice))
        except BrokenPipeError:
            pass  # It had enough.
        _leaves(worker)


def test_changed_settings() -> None:
    choice = random.Random(FIRST)
    for _ in range(10):
        with Worker(ready=False) as worker:
            try:
                worker.write(_changed(worker.settings(), choice))
            except BrokenPipeError:
                pass
            _leaves(worker)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x02",
        b"\x63\x00",
        bytes((frames.READY, 0)),
        bytes((frames.CALL, 200)) + b"short",
        bytes((frames.STREAM, 1)) + b"s",
        bytes((frames.LEVEL, 0)),
        bytes((frames.ACK, 0)),
    ],
    ids=repr,
)
def test_a_frame_that_makes_no_sense_is_the_end_and_says_why(body: bytes) -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(struct.pack(">I", len(body)) + body)
        kinds = _leaves(worker, closes=False)
        assert kinds[-1:] == [frames.FAILED]


def test_what_is_for_nobody_is_ignored() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(credit(b"nobody", 1, 2))
        worker.write(frame(frames.CALLBACK_RESULT, b"nobody", encode(1)))
        assert worker.call(expression("1")) == ("ok", 1)
        assert _leaves(worker) == []


@pytest.mark.parametrize("size", [10, 70_000, 2**31])
def test_a_frame_that_ends_within_is_ignored(size: int) -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(struct.pack(">I", size) + frame(frames.CALL, b"c")[4:])
        assert _leaves(worker) == []
        assert worker.process.returncode == 0


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\0",
        b"\0\0" + struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF),
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt",
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83l\xff\xff\xff\xff",
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83a\x01\x83t\0\0\0\0",
        b"\0\0" + struct.pack(">II", 2, 4) + b"\xff\xfesqrt\x83j\x83t\0\0\0\0",
        b"\x07\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83j\x83t\0\0\0\0",
    ],
    ids=range(7),
)
def test_a_request_whose_target_makes_no_sense_is_answered(payload: bytes) -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(frame(frames.CALL, b"c", payload))
        assert worker.result(b"c")[0] == "error"
        worker.write(stream(b"s", payload))
        assert worker.event(b"s")[0] == "error"
        assert worker.call(expression("1")) == ("ok", 1)


def test_a_frame_that_there_is_no_memory_for_is_refused_alone() -> None:
    with Worker(memory_limit=100 << 20) as worker:
        worker.expect(frames.READY)
        size = 300 << 20
        body = frame(frames.CALL, b"c", target("builtins", "len", b""))[4:]
        worker.write(struct.pack(">I", size) + body)
        zeros = bytes(1 << 20)
        left = size - len(body)
        while left:
            worker.write(zeros[:left])
            left -= min(left, len(zeros))
        kind, (name, _) = worker.result(b"c")
        assert (kind, name) == ("error", "MemoryError")
        assert worker.call(expression("1")) == ("ok", 1)
