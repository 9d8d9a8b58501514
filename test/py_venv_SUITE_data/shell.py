"""Types one line into a shell in a terminal: ``shell.py LINE UNTIL ERL [ARGUMENT ...]``.

Prints what the terminal got until UNTIL came.
"""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time

#: How long the answer may take, in seconds.
PATIENCE = 60.0


def read_until(fd: int, awaited: bytes) -> bytes:
    end = time.monotonic() + PATIENCE
    printed = b""
    while awaited not in printed:
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            sys.exit(f"{awaited!r} never came, but {printed!r}")
        printed += os.read(fd, 4096)
    return printed


def main(line: str, until: str, command: list[str]) -> None:
    child, fd = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    try:
        read_until(fd, b"1> ")
        os.write(fd, line.encode() + b"\r")
        sys.stdout.buffer.write(read_until(fd, until.encode()))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


main(sys.argv[1], sys.argv[2], sys.argv[3:])
