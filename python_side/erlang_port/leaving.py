"""How this process, and those that it has forked, end: with the node, in time, and for good."""

from __future__ import annotations

import ctypes
import faulthandler
import functools
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable

from erlang_port.hints import Any

_PR_SET_PDEATHSIG = 1

#: The functions of `os` after which Linux forgets what PR_SET_PDEATHSIG set (prctl(2)).
_CREDENTIALS = (
    "setuid",
    "seteuid",
    "setreuid",
    "setresuid",
    "setgid",
    "setegid",
    "setregid",
    "setresgid",
)

#: How long after the end of its input a worker under a wrapper may last when the node is gone,
#: in seconds.
_GRACE_SECONDS = 0.6

_fork = threading.local()


def die_with_parent() -> None:
    """Asks Linux to kill this process when the thread that started it ends, whatever it does.

    A thread that waits for the end of the input would do, but for C code that keeps the
    interpreter lock (prctl(2), PR_SET_PDEATHSIG).
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def die_with_node() -> None:
    """The same for the worker itself, also after it has changed its user or group."""
    parent = os.getppid()
    worker = os.getpid()

    def ask() -> None:
        die_with_parent()
        if os.getpid() == worker and os.getppid() != parent:
            os._exit(1)

    def asking_again(change: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(change)
        def changed(*ids: int) -> None:
            change(*ids)
            ask()

        return changed

    ask()
    for name in _CREDENTIALS:
        if hasattr(os, name):
            setattr(os, name, asking_again(getattr(os, name)))


def watch_node(read_fd: int, settings: dict[str, Any]) -> None:
    """Forks a process that ends this one when the node is gone, where the kernel does not.

    It does not where the interpreter is a wrapper that waits for Python: then it is the wrapper
    that the node's end would end. Called while this process has one thread.
    """
    if settings["os_pid"] in ("undefined", None, os.getpid()) or not hasattr(select, "poll"):
        return
    worker = os.getpid()
    pipe = os.dup(read_fd)
    if os.fork() == 0:
        try:
            die_with_parent()
            poll = select.poll()
            poll.register(pipe, 0)
            # Without events asked for, it reports that the other end was closed.
            poll.poll()
            time.sleep(_GRACE_SECONDS)
            if not _is_alive(settings["node_os_pid"]):
                os.kill(worker, signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(pipe)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def exit_after(seconds: float) -> None:
    """Ends the process after `seconds`; by a thread of C, which needs no lock."""
    null = open(os.devnull, "w")  # noqa: SIM115 - it stays open until the end
    faulthandler.dump_traceback_later(max(seconds, 0.001), exit=True, file=null)


def guard_forks(
    close: Callable[[], None],
    keep_thread: Callable[[], bool],
    leave: Callable[[Callable[[], None]], None],
) -> None:
    """What holds for each process that user code forks.

    It does not hold the port open. It ends with the worker if the thread that forked it lasts as
    long as the worker does: for others Linux would take the thread's end for the worker's.
    Where it comes back from user code it ends, and touches nothing.
    """

    def before() -> None:
        _fork.ends_with_worker = keep_thread()
        # A SIGTERM to the child waits until it is no longer the worker that would handle it.
        _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def after_in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)

    def after_in_child() -> None:
        close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, _fork.mask)
        if getattr(_fork, "ends_with_worker", False):
            die_with_parent()
        leave(end_child)

    os.register_at_fork(
        before=before, after_in_parent=after_in_parent, after_in_child=after_in_child
    )


def end_child() -> None:
    """Ends a forked process that comes back from user code, with the exit code it asks for."""
    error = sys.exc_info()[1]
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        import traceback

        code = 1
        traceback.print_exception(error)
    sys.stdout.flush()
    os._exit(code & 0xFF)
