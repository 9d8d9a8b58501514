"""`sys.stdout` of a worker: whole lines for the node's `user` device, or for the group leader of
the process whose request prints them.
"""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Callable
from threading import RLock, get_ident

from erlang_port.current import running
from erlang_port.hints import Any
from erlang_port.node.lossy_channel import LossyChannel
from erlang_port.runtime.ticker import Ticker

#: What is written without a line's end waits for it this long, in seconds, unless it is
#: flushed. A larger number holds a prompt back, a smaller one tears lines that are written
#: in pieces.
PATIENCE_SECONDS = 0.1

#: A line of more characters is sent in pieces. A larger number costs memory, a
#: smaller one tears more lines.
LONGEST = 64 * 1024


def note(lines: int) -> list[bytes]:
    """Takes the place of lines that were dropped."""
    return [b"[%d lines of output were dropped: the node did not take them]\n" % lines]


class Devices:
    """A channel for each I/O device that is printed to, by its address; none is `user`."""

    def __init__(self, make: Callable[[bytes], LossyChannel]) -> None:
        self._make = make
        # Re-entrant, because a finalizer may print.
        self._lock = RLock()
        self._channels: dict[bytes, LossyChannel] = {}

    def channel(self, device: bytes) -> LossyChannel:
        """The channel for a device, made when it is first printed to."""
        found = self._channels.get(device)
        if found is None:
            with self._lock:
                found = self._channels.get(device) or self._make(device)
                # Those of processes that have long ended go when there is a new one.
                idle = [key for key, channel in list(self._channels.items()) if channel.is_idle()]
                for key in idle:
                    del self._channels[key]
                self._channels[device] = found
        return found

    def credit_more(self, device: bytes, taken: int) -> None:
        """The device has taken this number of bytes more; on the thread that reads."""
        found = self._channels.get(device)
        if found is not None:
            found.credit_more(taken)


def _device() -> bytes:
    """What the running code prints to."""
    return getattr(running(), "output", b"")


class Output(io.TextIOBase):
    """Collects what each thread writes until a line is whole.

    In a forked child it writes to the real descriptor 1, which goes where the node's stderr goes.
    """

    def __init__(self, user: LossyChannel, devices: Devices, ticker: Ticker) -> None:
        #: The node's `user`.
        self._user: LossyChannel | None = user
        self._devices = devices
        self._ticker = ticker
        #: The beginnings of lines, by thread and device: those of two are not mixed.
        self._held: dict[tuple[int, bytes], str] = {}
        self._is_timed = False
        self.buffer = _Bytes(self)

    # As users of files expect it.

    name = "<stdout>"
    mode = "w"
    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True
    write_through = False

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """It is none."""
        return False

    def fileno(self) -> int:
        """The real descriptor, for child processes: it goes where the node's stderr goes."""
        return 1

    def reconfigure(self, **_options: Any) -> None:
        """Changes nothing: the node reads UTF-8, by lines."""

    def write(self, text: str) -> int:
        """Sends the lines that are whole now, and keeps the rest."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        whole = self.buffer.incomplete(get_ident()) + text
        self.write_decoded(whole)
        return len(text)

    def write_decoded(self, text: str) -> None:
        """The same for what was written as bytes."""
        key = get_ident(), _device()
        whole = self._held.pop(key, "") + text
        end = len(whole) if len(whole) > LONGEST else whole.rfind("\n") + 1
        if end < len(whole):
            self._held[key] = whole[end:]
            self._flush_later()
        if end:
            self._send(whole[:end], key[1])

    def flush(self) -> None:
        """Sends the beginning of the calling thread's line, too."""
        self._flush_held((get_ident(), _device()))

    def flush_all(self) -> None:
        """The same for every thread."""
        for key in list(self._held):
            self._flush_held(key)

    def flush_device(self, device: bytes) -> None:
        """What was printed for a device is with the frame writer when this returns."""
        for key in list(self._held):
            if key[1] == device:
                self._flush_held(key)
        if self._user is not None:
            self._devices.channel(device).flush()

    def _flush_held(self, key: tuple[int, bytes]) -> None:
        held = self._held.pop(key, "")
        if held:
            self._send(held, key[1])

    def close_all(self) -> None:
        """Sends all that is held back: nothing more will be written."""
        self.flush_all()
        for ident in self.buffer.threads():
            if text := self.buffer.incomplete(ident):
                self._send(text, b"")

    def disconnect(self) -> None:
        """From now on without the port: in a forked child, and when the node is gone."""
        self._user = None
        self._held.clear()

    def _flush_later(self) -> None:
        if not self._is_timed and self._user is not None:
            self._is_timed = True
            self._ticker.call_later(PATIENCE_SECONDS, self._flush_late)

    def _flush_late(self) -> None:
        self._is_timed = False
        self.flush_all()

    def _send(self, text: str, device: bytes) -> None:
        data = text.encode("utf-8", "backslashreplace")
        user = self._user
        if user is not None:
            channel = self._devices.channel(device) if device else user
            # A line that is sent in two counts once, by its end, unless a piece is long.
            channel.offer([data], data.count(b"\n") or int(len(text) > LONGEST))
            return
        while data:
            data = data[os.write(1, data) :]


_decoder = codecs.getincrementaldecoder("utf-8")


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`."""

    def __init__(self, text: Output) -> None:
        self._text = text
        #: By thread, those that have the first bytes of a character: writes may end anywhere.
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        ident = get_ident()
        decoder = self._decoders.pop(ident, None) or _decoder("backslashreplace")
        text = decoder.decode(bytes(data))
        if decoder.getstate()[0]:
            self._decoders[ident] = decoder
        self._text.write_decoded(text)
        return size

    def threads(self) -> list[int]:
        """Those that have written the first bytes of a character and not the last."""
        return list(self._decoders)

    def incomplete(self, ident: int) -> str:
        """The first bytes of a character that a thread wrote, if no more of it will come."""
        decoder = self._decoders.pop(ident, None)
        return decoder.decode(b"", True) if decoder is not None else ""

    def flush(self) -> None:
        self._text.flush()
