"""A worker as its node sees it: a process behind two pipes, and frames made by hand."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from erlang_port.etf import decoder
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.terms import Atom
from erlang_port.wire import frames
from erlang_port.wire.poller import EpollPoller, Poller

PYTHON_SIDE = Path(__file__).resolve().parents[2] / "python_side"

#: Long enough for whatever should come, on a machine that does other things as well.
PATIENCE = 20.0

Frame = tuple[int, bytes, bytes]


def encode(term: Any) -> bytes:
    return Encoder().encode(term)


def frame(kind: int, address: bytes = b"", payload: bytes = b"") -> bytes:
    """A frame with its length."""
    body = bytes((kind, len(address))) + address + payload
    return struct.pack(">I", len(body)) + body


def target(module: str, function: str, *args: Any, flags: int = 0) -> bytes:
    """What to run: names, then arguments and keyword arguments."""
    names = module.encode(), function.encode()
    head = struct.pack(">BBII", frames.FUNCTION, flags, len(names[0]), len(names[1]))
    return head + names[0] + names[1] + encode(list(args)) + encode({})


def expression(code: str) -> bytes:
    head = struct.pack(">BBII", frames.EXPRESSION, 0, len(code.encode()), 0)
    return head + code.encode() + encode([]) + encode({})


#: What a stream's frames begin with: `{py_stream, ref, _}`, the reference being an atom here.
PREFIX = b"\x83h\x03w\x09py_streamw\x03ref"


def stream(
    address: bytes,
    what: bytes,
    window: int = 1024,
    window_bytes: int = 4 << 20,
    batch: int = -1,
    take: int = -1,
    demand: int = -1,
    form: int = 0,
) -> bytes:
    """The frame that starts a stream."""
    numbers = struct.pack(">QQqqq", window, window_bytes, batch, take, demand)
    sizes = struct.pack(">BBH", form, len(PREFIX), 0)
    return frame(frames.STREAM, address, numbers + sizes + PREFIX + what)


def credit(address: bytes, values: int, size: int, demand: int = -1) -> bytes:
    return frame(frames.CREDIT, address, struct.pack(">QQq", values, size, demand))


class Worker:
    """A port program and the node's ends of its pipes."""

    def __init__(self, *, on_standard: bool = False, ready: bool = True, **settings: Any) -> None:
        self._settings = settings
        to_read, to_write = os.pipe()
        from_read, from_write = os.pipe()
        command = [sys.executable, str(PYTHON_SIDE)]
        if on_standard:
            stdin, stdout = to_read, from_write
        else:
            command += [str(to_read), str(from_write)]
            stdin, stdout = subprocess.DEVNULL, subprocess.PIPE
        self.process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            pass_fds=() if on_standard else (to_read, from_write),
            env={**os.environ, "PYTHONPATH": f"{PYTHON_SIDE}{os.pathsep}{Path(__file__).parent}"},
        )
        os.close(to_read)
        os.close(from_write)
        self._to: int | None = to_write
        self._from = from_read
        self._bytes = b""
        #: What the last pulse said.
        self._counters: dict[str, int] = {}
        self.is_closed = False
        hello = self.read()
        assert hello is not None
        assert (hello[0], hello[1], len(hello[2])) == (frames.HELLO, b"", 4)
        if ready:
            self.write(self.settings())

    def settings(self) -> bytes:
        """The first frame."""
        settings = {
            "none": "none",
            "max_threads": 16,
            "thread": Atom("any"),
            "memory_limit": Atom("infinity"),
            "interrupt_after": 1000,
            "interrupt_grace": 5000,
            "stop_timeout": 5000,
            "children": "kill",
            "os_pid": None,
            "node_os_pid": os.getpid(),
            "preload": [],
            "allow": Atom("all"),
            "journal": [],
            "level": 30,
            **self._settings,
        }
        return frame(frames.SETTINGS, b"", encode(settings))

    def write(self, data: bytes) -> None:
        assert self._to is not None
        while data:
            data = data[os.write(self._to, data) :]

    def hang_up(self) -> None:
        """The node closes its end."""
        if self._to is not None:
            os.close(self._to)
            self._to = None

    def read(self) -> Frame | None:
        """The next frame; None at the end of the output."""
        while True:
            if len(self._bytes) >= 4:
                (size,) = struct.unpack_from(">I", self._bytes)
                if len(self._bytes) >= 4 + size:
                    body = self._bytes[4 : 4 + size]
                    self._bytes = self._bytes[4 + size :]
                    end = 2 + body[1]
                    if body[0] == frames.PULSE:
                        self._counters = decoder.decode(body, end)
                    return body[0], body[2:end], body[end:]
            ready, _, _ = select.select([self._from], [], [], PATIENCE)
            assert ready, "nothing came"
            chunk = os.read(self._from, 1 << 16)
            if not chunk:
                assert not self._bytes, "the output ends within a frame"
                return None
            self._bytes += chunk

    def expect(self, *kinds: int) -> Frame:
        """The next frame that is one of these kinds; only output and pulses may come before it."""
        while True:
            found = self.read()
            assert found is not None, "the output has ended"
            if found[0] in kinds:
                return found
            assert found[0] in (frames.OUTPUT, frames.LOG, frames.PULSE), found

    def expect_counter(self, name: str, value: int) -> None:
        """Returns when a pulse says so; nothing but output may come before it."""
        while self._counters.get(name) != value:
            self.expect(frames.PULSE)

    def event(self, address: bytes) -> Any:
        """The next event of a stream."""
        kind, to, payload = self.expect(frames.EVENT, frames.LAST)
        assert to == address
        tag, ref, event = decoder.decode(payload, 0)
        assert (tag, ref) == ("py_stream", "ref")
        assert (kind == frames.LAST) == (event == "done" or event[0] == "error")
        return event

    def execute(self, code: str) -> Any:
        self.write(frame(frames.EXEC, b"exec", b"\0" + code.encode()))
        return self.result(b"exec")

    def call(self, what: bytes) -> Any:
        self.write(frame(frames.CALL, b"call", what))
        return self.result(b"call")

    def result(self, address: bytes) -> Any:
        _, to, payload = self.expect(frames.REPLY)
        assert to == address
        return decoder.decode(payload, 0)

    def wait(self) -> int:
        """The status with which it ends, soon."""
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.hang_up()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for end in (self.process.stdout, self.process.stderr):
            if end is not None:
                end.close()
        os.close(self._from)


def shut(poller: Poller) -> None:
    """Closes what a poller holds; an epoll object must know, or it closes its number again."""
    kept = list(poller.descriptors())
    if isinstance(poller, EpollPoller):
        poller._epoll.close()
        kept = [poller._wakeup_fd]
    for fd in kept:
        os.close(fd)


def eventually(condition: Any, seconds: float = PATIENCE) -> None:
    """Returns when the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)
