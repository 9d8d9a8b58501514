"""What the tests let a worker run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator


def closing(path: str, seconds: float) -> Iterator[int]:
    """Values, each after a while; leaves a file when it is closed."""
    try:
        i = 0
        while True:
            yield i
            i += 1
            time.sleep(seconds)
    finally:
        open(path, "w").close()


def spinning(begun: str, path: str) -> Iterator[int]:
    """Yields once, and never again; leaves a file when it begins to spin and when it is closed."""
    try:
        yield 0
        open(begun, "w").close()
        while True:
            pass
    finally:
        open(path, "w").close()


async def async_closing(path: str, seconds: float) -> AsyncIterator[int]:
    try:
        i = 0
        while True:
            yield i
            i += 1
            await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(0.001)
        open(path, "w").close()


def noise() -> str:
    """Writes on every descriptor that user code knows, and lets children do so."""
    os.write(1, b"to 1\n")
    os.write(2, b"to 2\n")
    try:
        os.write(0, b"to 0\n")
    except OSError:
        pass
    print("printed", flush=True)
    os.system("echo a shell; echo a shell >&2; cat")
    subprocess.run(["sh", "-c", "echo a child; echo x >&3; echo x >&4; cat"], check=False)
    return os.read(0, 10).decode()


def fork_and_write() -> int:
    """A forked child that writes and stays."""
    child = os.fork()
    if child == 0:
        os.write(1, b"from a fork\n")
        time.sleep(30)
        os._exit(0)
    return child


def leave_a_child() -> int:
    return subprocess.Popen(["sleep", "30"]).pid


def leave_a_careless_child() -> int:
    """One that inherits all that may be inherited."""
    return subprocess.Popen(["sleep", "30"], close_fds=False).pid
