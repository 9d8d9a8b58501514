"""Raising an exception inside a thread that runs user code, and only there."""

from __future__ import annotations

import ctypes
import threading

from erlang_port.reasons import Cancelled

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_clear_async_exc = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class UserCode:
    """A span in which one thread runs user code.

    An interrupt that finds the thread elsewhere does nothing, and one that was set but
    not yet raised when the span ends is taken back: an exception must never break off
    the writing of a frame. (`PyThreadState_SetAsyncExc`, Python/C API, "Initialization".)
    """

    __slots__ = ("_lock", "_thread", "_is_set")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread = 0
        self._is_set = False

    def enter(self) -> None:
        """The calling thread is about to run user code."""
        self._thread = threading.get_ident()

    def leave(self) -> None:
        """It has returned from there."""
        with self._lock:
            if self._is_set:
                _clear_async_exc(self._thread, None)
                self._is_set = False
            self._thread = 0

    def interrupt(self) -> bool:
        """Raises `Cancelled` in the thread; false if it is not in user code."""
        with self._lock:
            if self._thread == 0:
                return False
            self._is_set = True
            return _set_async_exc(self._thread, Cancelled) == 1
