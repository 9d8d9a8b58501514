"""Raising an exception inside a thread that runs user code, and only there."""

from __future__ import annotations

import ctypes
from threading import Lock, get_ident

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

    # Defaults in the class, and no lock of its own: one is made for every request.
    _thread = 0
    _is_set = False

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
                return False
            return bool(_set_async_exc(thread, Cancelled) == 1)


_interrupting = Lock()
