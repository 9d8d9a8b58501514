"""A debugger for code that has no terminal: `PYTHONBREAKPOINT=erlang.debugger.listen`."""

from __future__ import annotations

import io
import logging
import os
import pdb
import select
import socket
import sys
from types import FrameType
from typing import Any

#: How often code that waits for the terminal may be broken off, in seconds. A larger number
#: lets a request that is cancelled wait for longer.
_STEP_SECONDS = 0.2

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class _Terminal(io.TextIOBase):
    """A connection, as the debugger reads and writes it."""

    encoding = "utf-8"

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._read = b""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readline(self, _size: int | None = -1) -> str:  # type: ignore[override]
        """A line; when the other side has gone, the command to go on."""
        while b"\n" not in self._read:
            _wait(self._connection)
            try:
                data = self._connection.recv(4096)
            except OSError:
                data = b""
            if not data:
                return "continue\n"
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line.decode("utf-8", "backslashreplace").rstrip("\r") + "\n"

    def write(self, text: str) -> int:
        try:
            self._connection.sendall(text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # The next `readline` finds out.
        return len(text)

    def hang_up(self) -> None:
        self._connection.close()


class _Debugger(pdb.Pdb):
    """Ends the connection when it is not needed any more."""

    def __init__(self, terminal: _Terminal) -> None:
        file: Any = terminal
        super().__init__(stdin=file, stdout=file, nosigint=True, readrc=False)
        self._terminal = terminal

    def set_continue(self) -> None:
        super().set_continue()
        if not self.breaks:
            self._terminal.hang_up()

    def set_quit(self) -> None:
        super().set_quit()
        self._terminal.hang_up()


def listen(*_args: Any, **_kwargs: Any) -> None:
    """Waits at a port of this machine, which the log names, for who debugs the calling code.

    The thread stands still meanwhile; on the event loop, all async code does. Whoever can reach
    the port can run code here: it is for development.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_OWN):
        frame = frame.f_back
    frame = frame or sys._getframe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        logging.getLogger("erlang.debugger").warning(
            "breakpoint() in %s, line %d, waits at 127.0.0.1, port %d: nc 127.0.0.1 %d",
            frame.f_code.co_filename,
            frame.f_lineno,
            port,
            port,
        )
        _wait(server)
        connection, _ = server.accept()
    _Debugger(_Terminal(connection)).set_trace(frame)


def _wait(readable: socket.socket) -> None:
    """Until there is something to read; in steps, between which code can be broken off."""
    while not select.select([readable], [], [], _STEP_SECONDS)[0]:
        pass
