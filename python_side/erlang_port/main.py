"""Takes the descriptors over, then runs the program."""

from __future__ import annotations

import faulthandler
import os
import sys

from erlang_port import reasons
from erlang_port.hints import TYPE_CHECKING
from erlang_port.leaving import die_with_node, guard_forks
from erlang_port.wire import frames

if TYPE_CHECKING:
    from erlang_port.worker import Worker

_F_SETPIPE_SZ = 1031

#: What each of the two pipes may hold. More needs a privilege on most systems; less costs
#: switches between the two processes. The kernel takes the memory as it is used.
PIPE_BYTES = 1 << 20


def take_over(read_fd: int, write_fd: int) -> tuple[int, int]:
    """Moves the protocol away from descriptors 0 to 2 and out of reach of child processes.

    What is on 0 and 1 afterwards has nothing to do with the port: 0 is empty, and 1 goes
    where 2 goes.
    """
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:
        # One of 0 to 2 is closed: what is opened next must not take its place.
        os.set_inheritable(null, True)
        null = os.dup(null)
    protocol = os.dup(read_fd), os.dup(write_fd)  # Not inheritable (PEP 446).
    if (read_fd, write_fd) != (0, 1):
        os.close(read_fd)
        os.close(write_fd)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    if sys.stderr is None:
        # Python found descriptor 2 closed.
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
    return protocol


def widen(fd: int) -> None:
    """Lets a pipe to or from the node hold as much as a user may ask for, where one may ask.

    With the usual 64 KiB a large value is written in that many pieces, each of which
    waits for the other side to read the last one (pipe(7), F_SETPIPE_SZ, on Linux).
    """
    try:
        import fcntl

        fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)
    except (ImportError, OSError):
        pass  # It is the usual size, then.


def main(arguments: list[str]) -> None:
    """Runs until the node closes the port."""
    read_fd, write_fd = (int(argument) for argument in arguments[:2] or ("0", "1"))
    _name_process(arguments[2:])
    # As in an embedded interpreter: the numbers are no arguments of the user's code.
    sys.argv = [""]
    read_fd, write_fd = take_over(read_fd, write_fd)
    # On standard error until the node can read it, see Worker.
    faulthandler.enable()
    # What the node answers comes while the modules are imported.
    _say_hello(write_fd)
    widen(write_fd)
    widen(read_fd)
    die_with_node()
    # A group of its own, so that Ctrl-C in the node's terminal is the node's alone.
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    try:
        # Imported here: what comes before must not fail for want of a module.
        from erlang_port.wire.frame_reader import FrameReader
        from erlang_port.wire.poller import make_poller
        from erlang_port.worker import Worker, first_frames

        frame_reader, poller = FrameReader(read_fd), make_poller(read_fd)
        settings, early_frames = first_frames(poller, frame_reader)
        worker = Worker(read_fd, write_fd, poller, frame_reader, settings)
        _guard_children(worker, (read_fd, write_fd, *poller.descriptors()))
        worker.run(early_frames)
    except EOFError:
        pass
    except BaseException as error:
        _fail(write_fd, error)
        os._exit(1)


def _name_process(names: list[str]) -> None:
    """Lets `top` show which pool a worker belongs to, where Linux has a file for it."""
    try:
        with open("/proc/self/comm", "w", errors="replace") as comm:
            comm.write("py:" + " ".join(names)[:12])
    except OSError:
        pass


def _say_hello(write_fd: int) -> None:
    """Asks the node for the settings, and says which process this is.

    So what user code starts before the worker is ready ends with it.
    """
    pid = os.getpid().to_bytes(4, "big")
    try:
        os.write(write_fd, frames.header(frames.HELLO, b"", len(pid)) + pid)
    except OSError:
        pass  # The node did not wait; the end of the input follows.


def _fail(write_fd: int, error: BaseException) -> None:
    """Tells the node why there will be no work done."""
    why = f"{type(error).__name__}: {reasons.message_of(error)}\n{reasons.traceback_of(error)}"
    try:
        data = why.encode()
        os.write(write_fd, frames.header(frames.FAILED, b"", len(data)) + data)
    except OSError:
        pass  # The node did not wait.


def _guard_children(worker: Worker, descriptors: tuple[int, ...]) -> None:
    """A forked child (multiprocessing, os.fork) must not hold the port open."""

    def close() -> None:
        for fd in descriptors:
            try:
                os.close(fd)
            except OSError:
                pass

    guard_forks(close, worker.keep_thread, worker.end_where_user_code_ends)
