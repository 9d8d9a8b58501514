"""The frames that arrive: the bytes of the port, cut into frames."""

from __future__ import annotations

import os
import struct

#: One read. A smaller number costs system calls, a larger one memory per read.
CHUNK = 64 * 1024

_LENGTH = struct.Struct(">I")
_ALL = 0xFFFFFFFF


class OversizedFrame(bytes):
    """The first part of a frame for the whole of which there was no memory."""

    __slots__ = ()


class FrameReader:
    """Takes the bytes of the port apart into frames. One thread at a time reads."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
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
        bytearray; one that there is no memory for is a OversizedFrame.
        """
        frames: list[bytes] = []
        if not self._rest and self._large is None and not self._skip:
            try:
                chunk = os.read(self.fd, CHUNK)
            except BlockingIOError:
                return frames
            # One frame, whole: nearly every read of a call.
            size = len(chunk)
            if size < CHUNK and chunk[:4] == _LENGTH.pack(size - 4 & _ALL):
                return [chunk[4:]]
            if not self._split(chunk, frames):
                return frames
        while True:
            try:
                if self._skip:
                    more = self._pass_over()
                elif self._large is not None:
                    more = self._fill(frames)
                else:
                    more = self._split(os.read(self.fd, CHUNK), frames)
            except BlockingIOError:
                return frames
            if not more:
                return frames

    def _fill(self, frames: list[bytes]) -> bool:
        count = os.readv(self.fd, [self._missing])
        if count == 0:
            raise EOFError
        self._missing = self._missing[count:]
        if not self._missing and self._large is not None:
            frames.append(self._large)  # type: ignore[arg-type]  # read like bytes everywhere
            self._large = None
        return True

    def _pass_over(self) -> bool:
        count = len(os.read(self.fd, min(CHUNK, self._skip)))
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
                frames.append(OversizedFrame(chunk[start + 4 :]))
                self._skip = size - have
                return True
            self._large[:have] = chunk[start + 4 :]
            self._missing = memoryview(self._large)[have:]
            return True
        self._rest = chunk[start:]
        return is_full
