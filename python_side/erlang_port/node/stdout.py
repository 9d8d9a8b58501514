"""`sys.stdout` of a worker: whole lines for the node's `user` device."""

from __future__ import annotations

import codecs
import io
import os
from threading import get_ident
from typing import Any

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


class Output(io.TextIOBase):
    """Collects what each thread writes until a line is whole.

    In a forked child it writes to the real descriptor 1, which goes where the node's stderr goes.
    """

    def __init__(self, channel: LossyChannel, ticker: Ticker) -> None:
        self._channel: LossyChannel | None = channel
        self._ticker = ticker
        #: The beginnings of lines, by thread: those of two threads are not mixed.
        self._held: dict[int, str] = {}
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
        ident = get_ident()
        whole = self._held.pop(ident, "") + text
        end = len(whole) if len(whole) > LONGEST else whole.rfind("\n") + 1
        if end < len(whole):
            self._held[ident] = whole[end:]
            self._flush_later()
        if end:
            self._send(whole[:end])

    def flush(self) -> None:
        """Sends the beginning of the calling thread's line, too."""
        held = self._held.pop(get_ident(), "")
        if held:
            self._send(held)

    def flush_all(self) -> None:
        """The same for every thread."""
        for ident in list(self._held):
            held = self._held.pop(ident, "")
            if held:
                self._send(held)

    def close_all(self) -> None:
        """Sends all that is held back: nothing more will be written."""
        self.flush_all()
        for ident in self.buffer.threads():
            if text := self.buffer.incomplete(ident):
                self._send(text)

    def disconnect(self) -> None:
        """From now on without the port: in a forked child, and when the node is gone."""
        self._channel = None
        self._held.clear()

    def _flush_later(self) -> None:
        if not self._is_timed and self._channel is not None:
            self._is_timed = True
            self._ticker.call_later(PATIENCE_SECONDS, self._flush_late)

    def _flush_late(self) -> None:
        self._is_timed = False
        self.flush_all()

    def _send(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        if self._channel is not None:
            # A line that is sent in two counts once, by its end, unless a piece is long.
            self._channel.offer([data], data.count(b"\n") or int(len(text) > LONGEST))
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
