"""Frames that make no sense: each is answered, or the worker ends and says why. None is ignored
in silence, and none leaves a worker that no longer reads.

More seeds by the OS variable HOSTILE_SEEDS.
"""

from __future__ import annotations

import os
import random
import struct

import pytest

from erlang_port import frames
from port import Worker, expression, frame, stream, target

SEEDS = int(os.environ.get("HOSTILE_SEEDS", "8"))

REQUESTS = (
    stream(b"s", target("builtins", "iter", [1, 2, 3])),
    frame(frames.CALL, b"c", target("operator", "add", 1, 2)),
    frame(frames.CALL, b"x", expression("[1, 2]")),
    frame(frames.EXEC, b"e", b"\0x = 1"),
    frame(frames.CANCEL, b"s"),
    frame(frames.CREDIT, b"s", struct.pack(">QQq", 1, 10, -1)),
    frame(frames.LEVEL, b"", b"\x14"),
    frame(frames.STATS, b"t"),
)


def ends_with_a_reason(worker: Worker, reason: bytes) -> None:
    """The last frame says why, and the status is an error's."""
    while True:
        found = worker.read()
        assert found is not None, "it ended without a reason"
        if found[0] == frames.FAILED:
            assert reason in found[2]
            assert worker.read() is None
            assert worker.wait() == 1
            return


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", b"IndexError"),
        (bytes((frames.STREAM,)), b"IndexError"),
        (bytes((99, 0)), b"KeyError"),
        (bytes((0, 0)), b"KeyError"),
        (bytes((frames.READY, 0)), b"KeyError"),
        (bytes((frames.STREAM, 1)) + b"s", b"error"),
        (bytes((frames.STREAM, 200)) + b"s", b"error"),
        (bytes((frames.STREAM, 1)) + b"s" + bytes(20), b"error"),
        (bytes((frames.CALL, 1)) + b"c", b"IndexError"),
        (bytes((frames.EXEC, 1)) + b"e", b"IndexError"),
        (bytes((frames.LEVEL, 0)), b"IndexError"),
    ],
)
def test_a_frame_that_cannot_be_read_ends_the_worker_with_a_reason(
    body: bytes, reason: bytes
) -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(struct.pack(">I", len(body)) + body)
        ends_with_a_reason(worker, reason)


@pytest.mark.parametrize(
    "payload",
    [
        b"\0\0",
        b"\0\0" + struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF),
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt",
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83l\xff\xff\xff\xff",
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83a\x01\x83t\0\0\0\0",
        b"\0\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83j\x83a\x01",
        b"\0\0" + struct.pack(">II", 2, 4) + b"\xff\xfesqrt\x83j\x83t\0\0\0\0",
        b"\x07\0" + struct.pack(">II", 4, 4) + b"mathsqrt\x83j\x83t\0\0\0\0",
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_request_that_cannot_be_read_is_answered(payload: bytes, is_stream: bool) -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        if is_stream:
            worker.write(stream(b"s", payload))
            event = worker.event(b"s")
            assert event[0] == "error"
            assert event[1][0]
        else:
            worker.write(frame(frames.CALL, b"c", payload))
            kind, _ = worker.result(b"c")
            assert kind == "error"
        assert worker.call(expression("1")) == ("ok", 1)


def test_frames_for_requests_that_never_were_do_no_harm() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(frame(frames.CANCEL, b"nobody"))
        worker.write(frame(frames.CREDIT, b"nobody", struct.pack(">QQq", 1, 1, 1)))
        worker.write(frame(frames.ANSWER, b"nobody", b"\x83a\1"))
        assert worker.call(expression("1")) == ("ok", 1)


def test_half_a_frame_and_then_the_end_is_the_end() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(REQUESTS[0][:-3])
        worker.hang_up()
        assert worker.read() is None
        assert worker.wait() == 0


def test_a_frame_of_two_gibibytes_is_refused_where_there_is_no_memory_for_it() -> None:
    with Worker(memory_limit=100 * 1024 * 1024) as worker:
        worker.expect(frames.READY)
        size = (1 << 31) - 8
        head = frame(frames.CALL, b"c", target("builtins", "len", b""))[4:]
        worker.write(struct.pack(">I", size) + head + bytes((1 << 20) - len(head)))
        kind, (name, _) = worker.result(b"c")
        assert (kind, name) == ("error", "MemoryError")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with some of its bytes changed, left out, doubled or cut off."""
    kind = chance.randrange(4)
    at = chance.randrange(len(data))
    if kind == 0:
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(changed)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + chance.randint(1, 8) :]
    return data[:at] + data[at : at + chance.randint(1, 8)] + data[at:]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_mutated_frames_leave_a_worker_that_reads_or_none(seed: int) -> None:
    """Frames keep their length, whatever is in them: the pipe itself does not lie."""
    chance = random.Random(seed)
    with Worker() as worker:
        worker.expect(frames.READY)
        # A mutated expression may do anything; let it not do that for long.
        try:
            for _ in range(40):
                body = mutated(chance.choice(REQUESTS)[4:], chance)
                worker.write(struct.pack(">I", len(body)) + body)
            worker.write(frame(frames.PING))
        except BrokenPipeError:
            pass
        last = None
        while (found := worker.read()) is not None:
            last = found
            if found[0] == frames.PONG:
                return
        assert last is not None
        assert last[0] == frames.FAILED
        assert worker.wait() == 1


@pytest.mark.parametrize("seed", range(max(1, SEEDS // 4)))
def test_noise_in_place_of_frames_ends_or_starves_but_never_hangs_the_end(seed: int) -> None:
    chance = random.Random(seed)
    with Worker() as worker:
        worker.expect(frames.READY)
        try:
            worker.write(chance.randbytes(chance.randint(1, 5000)))
        except BrokenPipeError:
            pass
        worker.hang_up()
        while worker.read() is not None:
            pass
        assert worker.wait() in (0, 1)
