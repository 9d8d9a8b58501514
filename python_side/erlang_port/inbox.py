"""The way in: frames from the port, read by whichever thread has nothing to do.

All idle threads wait at one gate. The kernel wakes one of them for each arrival; it
reads what is there and does the work itself, while the others go on waiting. So a
call costs no hand-over from a reading thread to a working one. On the machine of
docs/benchmarks.md a round trip through this gate took 10 to 11 us where a C program
took 8, and 17 us where the reading thread handed the gate to the next one.
"""

from __future__ import annotations

import os
import select
import struct
import threading

#: One read. A smaller number costs system calls, a larger one memory per read.
CHUNK = 64 * 1024

_LENGTH = struct.Struct(">I")
_ALL = 0xFFFFFFFF


class EpollGate:
    """Threads wait; an arrival, or a call of `wake`, lets one of them through."""

    def __init__(self, fd: int) -> None:
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        # Edge-triggered: level-triggered would wake a second thread while the first
        # one reads. The bell is never read: each write is an edge of its own.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self._fd = fd

    def wait(self, timeout: float) -> bool:
        """Waits for so many seconds; false when nothing came."""
        events = self._epoll.poll(timeout, 1)
        if not events:
            return False
        if events[0][1] & select.EPOLLHUP:
            # The end of the input may share this edge with the last data. A reader that
            # finds the data does not look for the end, and no edge will tell of it again.
            self.wake()
        return True

    def wake(self) -> None:
        """Lets one thread through."""
        os.eventfd_write(self._bell, 1)

    def disarm(self) -> None:
        """From now on arrivals let nobody through: somebody polls."""
        self._epoll.modify(self._fd, 0)

    def arm(self) -> None:
        """Arrivals let threads through again, and one that was not read does so now."""
        self._epoll.modify(self._fd, select.EPOLLIN | select.EPOLLET)

    def poll(self, seconds: float) -> bool:
        """Waits for an arrival outside the gate."""
        # An object of its own: a thread that has just lost the right to read may still be
        # in here when the next one comes, and two in one object are an error.
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def descriptors(self) -> tuple[int, ...]:
        """What a forked child must close."""
        return self._bell, self._epoll.fileno()


class PollGate:
    """The same where there is no epoll (macOS): one thread polls, the others wait for it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)
        self._turn = threading.Lock()

    def wait(self, timeout: float) -> bool:
        """Waits for so many seconds; false when nothing came."""
        if not self._turn.acquire(timeout=timeout):
            return False
        try:
            ready = self._poll.poll(timeout * 1000)
            if any(fd == self._bell for fd, _ in ready):
                try:
                    os.read(self._bell, 1)
                except BlockingIOError:
                    pass
            return bool(ready)
        finally:
            self._turn.release()

    def wake(self) -> None:
        """Lets one thread through."""
        os.write(self._rope, b"!")

    def disarm(self) -> None:
        """Arrivals let one through all the same; it finds nothing to read, or reads."""

    def arm(self) -> None:
        """As it is always."""

    def poll(self, seconds: float) -> bool:
        """Waits for an arrival outside the gate."""
        return bool(select.select([self._fd], [], [], seconds)[0])

    def descriptors(self) -> tuple[int, ...]:
        """What a forked child must close."""
        return self._bell, self._rope


Gate = EpollGate | PollGate


def gate(fd: int) -> Gate:
    """The gate that this system has."""
    if hasattr(select, "epoll") and hasattr(os, "eventfd"):
        return EpollGate(fd)
    return PollGate(fd)


class Refused(bytes):
    """The first part of a frame for the whole of which there was no memory."""

    __slots__ = ()


class Inbox:
    """Takes the bytes of the port apart into frames. One thread at a time reads."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        #: The beginning of a frame shorter than a chunk.
        self._rest = b""
        #: A frame longer than a chunk, and the part of it that has not come.
        self._large: bytearray | None = None
        self._missing = memoryview(b"")
        #: How much of a frame that was refused is still to come.
        self._skip = 0

    def frames(self) -> list[bytes]:
        """All whole frames that are there, in time linear in their size.

        Raises EOFError at the end of the input. A frame of one chunk or more is a
        bytearray; one that there is no memory for is a Refused.
        """
        frames: list[bytes] = []
        while True:
            try:
                if self._skip:
                    more = self._pass_over()
                elif not self._rest and self._large is None:
                    chunk = os.read(self._fd, CHUNK)
                    # One frame, whole: nearly every read of a call.
                    if len(chunk) < CHUNK and chunk[:4] == _LENGTH.pack(len(chunk) - 4 & _ALL):
                        frames.append(chunk[4:])
                        return frames
                    more = self._split(chunk, frames)
                elif self._large is not None:
                    more = self._fill(frames)
                else:
                    more = self._split(os.read(self._fd, CHUNK), frames)
            except BlockingIOError:
                return frames
            if not more:
                return frames

    def _fill(self, frames: list[bytes]) -> bool:
        count = os.readv(self._fd, [self._missing])
        if count == 0:
            raise EOFError
        self._missing = self._missing[count:]
        if not self._missing and self._large is not None:
            frames.append(self._large)  # type: ignore[arg-type]  # read like bytes everywhere
            self._large = None
        return True

    def _pass_over(self) -> bool:
        count = len(os.read(self._fd, min(CHUNK, self._skip)))
        if count == 0:
            raise EOFError
        self._skip -= count
        return True

    def _split(self, chunk: bytes, frames: list[bytes]) -> bool:
        if not chunk:
            raise EOFError
        # A read that fills its buffer may have left something; one that does not has
        # emptied the pipe (epoll(7), on edge-triggered reading).
        is_full = len(chunk) == CHUNK
        if self._rest:
            chunk = self._rest + chunk
            self._rest = b""
        start, end = 0, len(chunk)
        while end - start >= 4:
            (size,) = _LENGTH.unpack_from(chunk, start)
            stop = start + 4 + size
            if stop > end:
                break
            frames.append(chunk[start + 4 : stop])
            start = stop
        if start == end:
            return is_full
        if end - start >= 4 and size >= CHUNK:
            have = end - start - 4
            try:
                self._large = bytearray(size)
            except MemoryError:
                frames.append(Refused(chunk[start + 4 :]))
                self._skip = size - have
                return True
            self._large[:have] = chunk[start + 4 :]
            self._missing = memoryview(self._large)[have:]
            return True
        self._rest = chunk[start:]
        return is_full
