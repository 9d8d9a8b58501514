"""Raising an exception inside a thread that runs user code, and only there."""

from __future__ import annotations

import ctypes
from threading import Lock, get_ident

from erlang_port.reasons import Cancelled

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
# Taking one back needs a null pointer, and the interpreter lock (PYFUNCTYPE keeps it).
_clear_async_exc = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class UserCode:
    """A span in which one thread runs user code.

    An interrupt that finds the thread elsewhere does nothing, and one that was set but
    not yet raised when the span ends is taken back: an exception must never break off
    the writing of a frame. (`PyThreadState_SetAsyncExc`, Python/C API, "Initialization".)
    """

    # Defaults in the class, and no lock of its own: one is made for every request.
    _thread = 0
    _is_set = False
    _bell: Bell | None = None

    def enter(self) -> None:
        """The calling thread is about to run user code."""
        self._thread = get_ident()

    def leave(self) -> None:
        """It has returned from there."""
        thread, self._thread = self._thread, 0
        # An interrupt says that it is coming before it looks whether the thread is still
        # there: either it finds it gone, or it is found here and waited for.
        if self._is_set:
            with _interrupting:
                _clear_async_exc(thread or get_ident(), None)
                self._is_set = False

    def interrupt(self) -> bool:
        """Raises `Cancelled` in the thread; false if it is not in user code."""
        with _interrupting:
            self._is_set = True
            thread = self._thread
            if thread == 0:
                self._is_set = False
                bell = self._bell
                if bell is not None:
                    bell.is_interrupt = True
                    bell.ring()
                return bell is not None
            return bool(_set_async_exc(thread, Cancelled) == 1)

    def is_here(self) -> bool:
        """Whether the calling thread is the one that runs it."""
        return self._thread == get_ident()

    def wait(self, bell: Bell, timeout: float = -1) -> bool:
        """Leaves the span until the bell rings; false if it did not within so many seconds.

        Raises `Cancelled` when an interrupt rings it: waiting for a lock is not broken off by
        an exception that another thread sets.
        """
        self.leave()
        self._bell = bell
        try:
            rang = bell.wait(timeout)
        finally:
            self._bell = None
            self.enter()
        if bell.is_interrupt:
            raise Cancelled
        return rang


class Bell:
    """Wakes the one thread that waits for it; ringing it twice does no harm."""

    __slots__ = ("_lock", "is_interrupt")

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()
        self.is_interrupt = False

    def wait(self, timeout: float = -1) -> bool:
        """Waits for so many seconds, -1 for as long as it takes; false if it did not ring."""
        return self._lock.acquire(timeout=timeout)

    def ring(self) -> None:
        """From any thread, any number of times."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # It has rung.


_interrupting = Lock()
