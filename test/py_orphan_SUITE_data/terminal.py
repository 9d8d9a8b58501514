"""Runs a node in a terminal of its own: ``terminal.py ERL [ARGUMENT ...]``.

Types a call into its shell, Ctrl-C, ``c`` for "continue", and the call again; prints
both answers, which are the numbers of the worker's process.
"""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time

#: How long each answer may take, in seconds.
PATIENCE = 30.0

START = b"application:ensure_all_started(erlang_python).\r"
CALL = b"py:call(os, getpid, []).\r"
ANSWER = rb"\{ok,(\d+)\}"


def read_until(fd: int, pattern: bytes, printed: bytes = b"") -> tuple[re.Match[bytes], bytes]:
    """The match, and what was printed behind it."""
    end = time.monotonic() + PATIENCE
    while True:
        found = re.search(pattern, printed)
        if found is not None:
            return found, printed[found.end() :]
        ready, _, _ = select.select([fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            sys.exit(f"{pattern!r} never came, but {printed!r}")
        printed += os.read(fd, 4096)


def main(command: list[str]) -> None:
    """Prints the worker's number before and after Ctrl-C."""
    child, fd = pty.fork()
    if child == 0:
        os.execvp(command[0], command)
    try:
        _, rest = read_until(fd, rb"1> ")
        os.write(fd, START + CALL)
        before, rest = read_until(fd, ANSWER, rest)
        os.write(fd, b"\x03")
        _, rest = read_until(fd, rb"BREAK: \(a\)bort", rest)
        os.write(fd, b"c\n")
        os.write(fd, CALL)
        after, rest = read_until(fd, ANSWER, rest)
        print(int(before[1]), int(after[1]))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


main(sys.argv[1:])
