"""Lines of output, before they are sent."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from erlang_port.node.lossy_channel import LossyChannel
from erlang_port.node.stdout import LONGEST, Devices, Output
from erlang_port.runtime.ticker import Ticker


class Kept(LossyChannel):
    """A channel that keeps what it is offered."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []

    def offer(self, buffers: list[bytes], count: int = 1) -> bool:
        self.texts.append(b"".join(buffers))
        return True


class Timer(Ticker):
    def __init__(self) -> None:
        self.due: list[Any] = []

    def call_later(self, _seconds: float, function: Any) -> None:
        self.due.append(function)


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def out(kept: Kept, timer: Timer) -> Output:
    return Output(kept, Devices(lambda _device: kept), timer)


def test_lines_leave_whole(out, kept):
    for piece in ["a", "b\nc", "\nd\ne\n", ""]:
        assert out.write(piece) == len(piece)
    assert kept.texts == [b"ab\n", b"c\nd\ne\n"]


def test_the_rest_leaves_when_it_is_flushed(out, kept):
    out.write("no end")
    out.flush()
    out.flush()
    assert kept.texts == [b"no end"]


def test_the_rest_leaves_after_a_moment(out, kept, timer):
    out.write("no ")
    out.write("end")
    assert len(timer.due) == 1
    timer.due.pop()()
    assert kept.texts == [b"no end"]
    out.write("again")
    assert len(timer.due) == 1


def test_a_line_without_end_leaves_in_pieces(out, kept):
    for _ in range(10):
        out.write("x" * (LONGEST // 2))
    assert len(b"".join(kept.texts)) >= 3 * LONGEST


def test_threads_have_lines_of_their_own(out, kept):
    out.write("mine ")
    other = threading.Thread(target=lambda: out.write("theirs\n"))
    other.start()
    other.join()
    out.write("too\n")
    assert kept.texts == [b"theirs\n", b"mine too\n"]


def test_what_is_no_text_is_refused(out):
    with pytest.raises(TypeError):
        out.write(b"bytes")


def test_bytes_have_a_way_of_their_own(out, kept):
    assert out.buffer.write(memoryview(b"\xff\n")) == 2
    assert kept.texts == [b"\\xff\n"]
    assert out.buffer.writable()


def test_a_forked_child_writes_to_the_descriptor(out, kept, capfd):
    out.write("begun by the parent")
    out.disconnect()
    print("child", file=out)
    assert capfd.readouterr().out == "child\n"
    assert kept.texts == []


def test_bytes_may_be_cut_inside_a_character(out, kept):
    text = "café ☃ 😀\n"
    for byte in text.encode():
        out.buffer.write(bytes([byte]))
        out.buffer.flush()
    out.close_all()
    assert b"".join(kept.texts) == text.encode()


def test_bytes_of_threads_are_not_mixed(out, kept):
    first, second = "é\n".encode(), "☃\n".encode()
    out.buffer.write(first[:1])
    thread = threading.Thread(target=out.buffer.write, args=[second])
    thread.start()
    thread.join()
    out.buffer.write(first[1:])
    assert kept.texts == [second, first]


def test_bytes_that_stay_half_a_character_are_escaped(out, kept):
    out.buffer.write(b"a\xc3")
    out.write("b\n")
    out.buffer.write(b"c\xe2\x98")
    out.close_all()
    assert b"".join(kept.texts) == b"a\\xc3b\nc\\xe2\\x98"
