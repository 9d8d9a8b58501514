"""The way out: whole frames, in order, from any thread."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from erlang_port.wire.frame_writer import JOIN_BYTES, MAX_BUFFERS, FrameWriter
from port import eventually


class Reader:
    """Reads a pipe to its end on a thread, once it is started."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._may = threading.Event()
        self.chunks: list[bytes] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self._may.wait()
        while chunk := os.read(self._fd, 1 << 16):
            self.chunks.append(chunk)

    def start(self) -> None:
        self._may.set()

    def all(self) -> bytes:
        self._may.set()
        self.thread.join()
        return b"".join(self.chunks)


@pytest.fixture
def pipe() -> Iterator[tuple[Reader, int]]:
    read, write = os.pipe()
    reader = Reader(read)
    yield reader, write
    try:
        os.close(write)
    except OSError:
        pass
    reader.all()
    os.close(read)


def never() -> None:
    raise AssertionError("the pipe is not broken")


def frame(body: bytes) -> tuple[list[bytes], int]:
    return [struct.pack(">I", len(body)), body], 4 + len(body)


def bodies(data: bytes) -> list[bytes]:
    found = []
    while data:
        (size,) = struct.unpack_from(">I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def test_frames_leave_as_they_are(pipe: tuple[Reader, int]) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    frame_writer.put(*frame(b"one"))
    frame_writer.put_and_wait(*frame(b"two"))
    frame_writer.put([b"\0\0\0\x05", b"", memoryview(b"th"), bytearray(b"ree")], 9)
    os.close(write)
    assert reader.all() == b"\0\0\0\x03one\0\0\0\x03two\0\0\0\x05three"


def test_what_is_put_for_later_leaves_in_one_write_and_before_what_comes_after(
    pipe: tuple[Reader, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    writes = []
    real = os.write

    def count(fd: int, data: bytes) -> int:
        writes.append(bytes(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", count)
    for body in (b"a", b"b", b"c"):
        frame_writer.put_later(*frame(body))
    assert writes == []
    frame_writer.write_queued()
    assert [bodies(data) for data in writes] == [[b"a", b"b", b"c"]]
    frame_writer.put_later(*frame(b"d"))
    frame_writer.put(*frame(b"e"))
    monkeypatch.undo()
    os.close(write)
    assert bodies(reader.all()) == [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize("size", [0, 1, JOIN_BYTES - 4, JOIN_BYTES - 3, JOIN_BYTES, 3_000_000])
def test_large_and_small_frames_keep_their_order(pipe: tuple[Reader, int], size: int) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    reader.start()
    sent = [b"before", b"L" * size, b"behind"] * 5
    for i, body in enumerate(sent):
        (frame_writer.put if i % 2 else frame_writer.put_and_wait)(*frame(body))
    os.close(write)
    assert bodies(reader.all()) == sent


def test_a_frame_of_very_many_buffers_leaves_whole(pipe: tuple[Reader, int]) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    reader.start()
    count = 3 * MAX_BUFFERS
    buffers: list[bytes] = [struct.pack(">I", 100 * count), *[b"x" * 100] * count]
    frame_writer.put(buffers, 4 + 100 * count)
    os.close(write)
    assert bodies(reader.all()) == [b"x" * 100 * count]


def test_frames_of_many_threads_are_never_mixed_and_each_threads_keep_their_order(
    pipe: tuple[Reader, int],
) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    reader.start()

    def send(name: bytes, wait: bool) -> None:
        for i in range(200):
            size = (0, 10, 70_000)[i % 3]
            body = b"%b %d " % (name, i) + b"." * size
            (frame_writer.put_and_wait if wait else frame_writer.put)(*frame(body))

    names = [b"a", b"b", b"c", b"d"]
    threads = [threading.Thread(target=send, args=(name, name < b"c")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(write)
    found = [body.split(b" ")[:2] for body in bodies(reader.all())]
    assert len(found) == 800
    for name in names:
        assert [int(i) for who, i in found if who == name] == list(range(200))


def test_who_must_not_wait_does_not_while_the_pipe_is_full(pipe: tuple[Reader, int]) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    body = b"L" * 2_000_000
    blocked = threading.Thread(target=frame_writer.put_and_wait, args=frame(body))
    blocked.start()
    # Once it holds the lock, nobody else waits for it: these calls return, whatever is read.
    eventually(lambda: frame_writer._writing.locked())
    for i in range(100):
        frame_writer.put(*frame(b"%d" % i))
    assert blocked.is_alive()
    reader.start()
    blocked.join()
    os.close(write)
    assert bodies(reader.all()) == [body, *(b"%d" % i for i in range(100))]


def test_who_may_wait_returns_when_all_is_written_and_not_later_than_it_said(
    pipe: tuple[Reader, int],
) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    with frame_writer._writing:  # As another thread does while it writes.
        frame_writer.put(*frame(b"queued"))
        assert not frame_writer.wait(0.01)
    assert frame_writer.wait(0.01)
    assert not frame_writer._queue
    reader.start()
    os.close(write)
    assert bodies(reader.all()) == [b"queued"]


class BusyLock:
    """A lock; just before it is free another thread comes, each time, and finds it taken."""

    def __init__(self, others: list[Callable[[], None]]) -> None:
        self._lock = threading.Lock()
        self._others = others
        self.acquire = self._lock.acquire

    def release(self) -> None:
        if self._others:
            self._others.pop(0)()
        self._lock.release()


@pytest.mark.parametrize("way", ["put", "put_and_wait", "wait"])
def test_what_others_put_at_the_end_of_a_write_does_not_stay_there(
    pipe: tuple[Reader, int], way: str
) -> None:
    reader, write = pipe
    frame_writer = FrameWriter(write, never)
    others = [b"two", b"three", b"four"]

    def late(body: bytes) -> Callable[[], None]:
        return lambda: frame_writer.put(*frame(body))

    frame_writer._writing = BusyLock([late(body) for body in others])  # type: ignore[assignment]
    if way == "wait":
        frame_writer.put_later(*frame(b"one"))
        frame_writer.wait()
    else:
        getattr(frame_writer, way)(*frame(b"one"))
    os.close(write)
    assert bodies(reader.all()) == [b"one", *others]


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_reader_that_is_gone_is_reported(size: int) -> None:
    read, write = os.pipe()
    os.close(read)
    calls: list[None] = []
    frame_writer = FrameWriter(write, lambda: calls.append(None))
    frame_writer.put(*frame(b"x" * size))
    frame_writer.put_and_wait(*frame(b"x" * size))
    assert len(calls) == 2
    os.close(write)
