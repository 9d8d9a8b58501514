"""Raising an exception inside a thread that runs user code, and only there.

Each thread that runs user code has one lock, its token. The thread itself holds it
while it does the port program's own work, and lets go of it for as long as it runs user
code. Whoever wants to interrupt takes the token first; what it cannot take, it cannot
interrupt. So an exception is only ever set while the thread is in user code.

It may be *raised* later: the interpreter looks for such an exception between two
bytecodes. But once the thread has its token back none can be set any more, so at most
one is left, which is raised at once (after the call of `leave`) or taken back by
`clear_pending`. That is why every region has the form ::

    try:
        region.enter()
        ...
    finally:
        region.leave()
        if region.is_set:
            region.clear_pending()

with `enter` and `leave` as methods of the lock itself, written in C: in a function of
Python's the exception could be raised before the first statement, and the token would
never be taken. What is raised in the `finally` reaches the caller in place of what the
user code returned; behind it nothing is left to be raised.

Python 3.10 looks for such an exception at the beginning of a `finally` block, too, where
the user code raised one of its own: before `leave` is called. There only one interrupt is
set in a region, and one more after each second, so that whoever catches what a region has
raised can take the token, by `reacquire`, before it does anything else.

(`PyThreadState_SetAsyncExc`, Python/C API, "Initialization, Finalization, and ThreadPool".)
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from inspect import CORO_CLOSED, getcoroutinestate
from threading import Lock, RLock, get_ident
from typing import Any, TypeVar

from erlang_port.errors import Cancelled

T = TypeVar("T")

#: Whether the interpreter looks for exceptions at the beginning of a `finally` block.
_IS_EAGER = sys.version_info < (3, 11)

#: How long it is until such an interpreter is given another, in seconds. A larger number
#: lets code go on for longer that swallows them; a smaller one lets a thread that stands
#: still for so long between two bytecodes have a second one there.
_AGAIN_SECONDS = 1.0

# Both keep the interpreter lock while they run, unlike other foreign functions.
_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_clear_async_exc = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class InterruptibleRegion:
    """The regions in which one thread runs user code; made by that thread, for itself."""

    __slots__ = (
        "__weakref__",
        "_bell",
        "_set_at",
        "_thread",
        "_token",
        "enter",
        "is_set",
        "leave",
        "request",
    )

    def __init__(self) -> None:
        # Reentrant, so that a finalizer that runs amid the program's own work can go
        # through a region of its own.
        self._token = RLock()
        self._token.acquire()
        self._thread = get_ident()
        self._bell: OneShotEvent | None = None
        #: The calling thread is about to run user code.
        self.enter: Callable[[], object] = self._token.release
        #: It has returned from there.
        self.leave: Callable[[], object] = self._token.acquire
        #: An interrupt was set, and perhaps not raised yet.
        self.is_set = False
        self._set_at = 0.0
        #: Whose code it is.
        self.request: object = None

    def run(self, request: object, function: Callable[..., T], *args: Any) -> T:
        """Calls user code, which an interrupt of `request` may break off."""
        self.request = request
        self.is_set = False
        try:
            try:
                self.enter()
                return function(*args)
            finally:
                self.leave()
                if self.is_set:
                    self.clear_pending()
        except BaseException:
            self.reacquire()
            raise

    def clear_pending(self) -> None:
        """Takes an interrupt back that was set and not raised; or raises it."""
        self.is_set = False
        _clear_async_exc(self._thread, None)

    def shielded(self, function: Callable[..., T], *args: Any) -> T:
        """Calls what no interrupt may break off, from within user code or not."""
        try:
            self.leave()
            if self.is_set:
                self.clear_pending()
            return function(*args)
        finally:
            self.enter()

    def reacquire(self) -> None:
        """Makes sure that the token is held, after an exception.

        It may not be in Python 3.10, see above, and on the main thread, where the handler of
        a signal may have raised an exception while the thread waited for the token.
        """
        while not self._token._is_owned():  # type: ignore[attr-defined]
            self._token.acquire()
        if self.is_set:
            self.clear_pending()

    def is_current(self) -> bool:
        """Whether the calling thread is this one, and runs user code."""
        return self._thread == get_ident() and not self._token._is_owned()  # type: ignore[attr-defined]

    def interrupt(self, request: object) -> bool:
        """Raises `Cancelled` in the thread; false if it does not run code of this request."""
        if self._thread == get_ident():
            return False
        if not self._token.acquire(blocking=False):
            bell = self._bell
            if bell is None or self.request is not request:
                return False
            # Waiting for a lock is not broken off by an exception.
            bell.is_interrupt = True
            bell.ring()
            return True
        try:
            if self.request is not request:
                return False
            if _IS_EAGER:
                now = time.monotonic()
                if self.is_set and now - self._set_at < _AGAIN_SECONDS:
                    return True
                self._set_at = now
            self.is_set = True
            return bool(_set_async_exc(self._thread, Cancelled) == 1)
        finally:
            self._token.release()

    def wait(self, bell: OneShotEvent, timeout: float = -1) -> bool:
        """Waits on behalf of user code, shielded; false if the bell did not ring in time.

        `timeout` is in seconds, -1 for as long as it takes. Raises `Cancelled` when it was an
        interrupt that rang it.
        """
        self._bell = bell
        try:
            rang = bell.wait(timeout)
        finally:
            self._bell = None
        if bell.is_interrupt:
            raise Cancelled
        return rang


class InterruptibleCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine for an event loop to run, each of whose steps is user code.

    What lies between the steps is the loop's, and no interrupt finds its way there. When
    the coroutine is over, `ended` is called with what it returned and None, or with None
    and what it raised; not as user code.
    """

    __slots__ = ("__weakref__", "_coroutine", "_ended", "_request", "_user_code")

    def __init__(
        self,
        region: InterruptibleRegion,
        request: object,
        coroutine: Coroutine[Any, Any, Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._user_code = region
        self._request = request
        self._coroutine = coroutine
        self._ended = ended

    def send(self, value: Any) -> Any:
        """Goes on to where the coroutine waits next."""
        return self._step(self._coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """The same, with an exception raised where it waits now."""
        return self._step(self._coroutine.throw, *error)

    def _step(self, resume: Callable[..., Any], *args: Any) -> Any:
        try:
            return self._user_code.run(self._request, resume, *args)
        except StopIteration as end:
            self._ended(end.value, None)
        except BaseException as error:
            if getcoroutinestate(self._coroutine) != CORO_CLOSED:
                # The interrupt was raised outside of the coroutine, which waits for
                # something that nobody would tell the loop of.
                return self._step(self._coroutine.throw, error)
            self._ended(None, error)
        finally:
            self._user_code.request = None
        raise StopIteration

    def close(self) -> None:
        """Ends it where it waits."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()


class OneShotEvent:
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
