"""Where idle threads wait for frames."""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from erlang_port.wire.frame_reader import FrameReader
from erlang_port.wire.poller import EpollPoller, Poller, PollPoller, make_poller
from port import eventually, shut

POLLERS = [PollPoller, *([EpollPoller] if hasattr(select, "epoll") else [])]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


@pytest.fixture(params=POLLERS)
def any_poller(request: pytest.FixtureRequest, pipe: tuple[int, int]) -> Iterator[Poller]:
    os.set_blocking(pipe[0], False)
    made: Poller = request.param(pipe[0])
    yield made
    shut(made)


def test_the_poller_is_the_one_that_the_system_has(pipe: tuple[int, int]) -> None:
    made = make_poller(pipe[0])
    assert isinstance(made, EpollPoller if hasattr(select, "epoll") else PollPoller)
    shut(made)


def test_a_wait_ends_when_nothing_comes(any_poller: Poller) -> None:
    assert any_poller.wait(0.01) is False


def test_an_arrival_opens_it(any_poller: Poller, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    assert any_poller.wait(5) is True
    os.read(pipe[0], 10)
    assert any_poller.wait(0.01) is False


def test_wake_lets_one_wait_through(any_poller: Poller) -> None:
    any_poller.wake()
    assert any_poller.wait(5) is True
    assert any_poller.wait(0.01) is False


def test_the_end_of_the_input_opens_it_for_one_who_reads_to_the_end(
    any_poller: Poller, pipe: tuple[int, int]
) -> None:
    """The last data and the end may come together; a reader stops where the data ends."""
    frame_reader = FrameReader(pipe[0])
    os.write(pipe[1], struct.pack(">I", 4) + b"last")
    os.close(pipe[1])
    assert any_poller.wait(5)
    assert frame_reader.frames() == [b"last"]
    assert any_poller.wait(5)
    with pytest.raises(EOFError):
        frame_reader.frames()


def test_an_arrival_while_it_was_paused_is_reported_when_it_is_resumed(
    any_poller: Poller, pipe: tuple[int, int]
) -> None:
    any_poller.pause()
    assert any_poller.poll(0) is False
    os.write(pipe[1], b"x")
    assert any_poller.poll(5) is True
    any_poller.resume()
    assert any_poller.wait(5) is True
    assert os.read(pipe[0], 10) == b"x"


def test_wake_works_while_it_is_paused(any_poller: Poller) -> None:
    any_poller.pause()
    any_poller.wake()
    assert any_poller.wait(5) is True


def _waiters(made: Poller, count: int, through: Callable[[], object]) -> list[threading.Thread]:
    def wait() -> None:
        if made.wait(10):
            through()

    threads = [threading.Thread(target=wait) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_every_arrival_finds_a_thread(any_poller: Poller, pipe: tuple[int, int]) -> None:
    """Whoever gets through reads; so as many arrivals as threads let all of them through."""
    read: list[bytes] = []

    def take() -> None:
        try:
            read.append(os.read(pipe[0], 1))
        except BlockingIOError:
            read.append(b"")

    threads = _waiters(any_poller, 5, take)
    end = time.monotonic() + 10
    while any(thread.is_alive() for thread in threads) and time.monotonic() < end:
        before = len(read)
        os.write(pipe[1], b"x")
        eventually(lambda before=before: len(read) > before or not threads)
    assert len(read) == 5
    for thread in threads:
        thread.join()


def test_each_wake_lets_one_thread_through(any_poller: Poller) -> None:
    through: list[None] = []
    threads = _waiters(any_poller, 3, lambda: through.append(None))
    for expected in range(1, 4):
        any_poller.wake()
        eventually(lambda expected=expected: len(through) == expected)
    for thread in threads:
        thread.join()


def test_two_threads_may_poll_at_once() -> None:
    # The one that has just lost the right to read is still in there when the next one comes.
    read_fd, write_fd = os.pipe()
    poller = make_poller(read_fd)
    found: list[bool | BaseException] = []

    def poll() -> None:
        try:
            found.append(poller.poll(10.0))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=poll) for _ in range(3)]
    for thread in threads:
        thread.start()
    # Whichever of them are in there by now; the others find the byte at once.
    assert poller.poll(0.05) is False
    os.write(write_fd, b"!")
    for thread in threads:
        thread.join()
    assert found == [True, True, True]
    os.close(read_fd)
    os.close(write_fd)
