"""Raising an exception inside a thread that runs user code, and only there.

Each thread that runs user code has one lock. The thread itself holds it while it does the port
program's own work, and lets go of it for as long as it runs user code. Whoever wants to interrupt
takes the lock first; a thread whose lock is held is in the program's own code and is not
interrupted. So an exception is only ever set while the thread is in user code.

It may be *raised* later: the interpreter looks for such an exception between two
bytecodes. But once the thread has its lock back none can be set any more, so at most
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
Python's the exception could be raised before the first statement, and the lock would
never be taken. An interrupt that arrives late is raised in the `finally` and replaces the
result. After the `finally` none can be pending.

Python 3.10 looks for such an exception at the beginning of a `finally` block, too, where
the user code raised one of its own: before `leave` is called. There only one interrupt is
set in a region, and one more after each second, so that whoever catches what a region has
raised can take the lock, by `reacquire`, before it does anything else.

User code has places of its own that must not be broken off: imports, what handles locks in the
standard library, finalizers; see safe_points.py. There the thread is left alone, and whoever
interrupts tries again. A thread that is met in the program's own work each time, as one that
prints without end is, raises the exception itself when it goes back to user code: `shielded`.

(`PyThreadState_SetAsyncExc`, Python/C API, "Initialization, Finalization, and ThreadPool".)

From CPython 3.13 on no exception is set. There the thread is armed, see monitoring.py: it raises
the interrupt by itself where that may be, and whoever interrupts learns of it the next time.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from enum import IntEnum
from threading import Lock, RLock, get_ident
from time import sleep
from types import FrameType

from erlang_port.errors import Cancelled
from erlang_port.hints import Any, TypeVar
from erlang_port.runtime.monitoring import arm, disarm
from erlang_port.runtime.safe_points import (
    Place,
    frame_of,
    open_codes,
    place_of,
    place_of_call,
    set_if_at,
)

T = TypeVar("T")

#: Whether the interpreter looks for exceptions at the beginning of a `finally` block.
_IS_EAGER = sys.version_info < (3, 11)

#: How long it is until such an interpreter is given another, in seconds. A larger number
#: lets code go on for longer that swallows them; a smaller one lets a thread that stands
#: still for so long between two bytecodes have a second one there.
_AGAIN_SECONDS = 1.0

#: How long a thread is followed that is where it must not be broken off, in seconds of the
#: process's own time: in those of the clock it may not move at all on a busy machine. A larger
#: number holds the caller up; with a smaller one it takes longer to meet a thread that is
#: hardly ever anywhere else.
_FOLLOW_SECONDS = 0.005

#: A thread that has not moved in this many turns waits for something. Between two of them it has
#: this long, in seconds, to get a processor. Larger numbers hold the caller up; with smaller ones
#: a thread that has none counts as one that waits.
_STILL_TURNS = 5
_STILL_SECONDS = 0.0005

#: How often threads take turns meanwhile, in seconds. By default it is every 5 ms, and each
#: turn is a chance.
_FOLLOW_SWITCH = 1e-6

# Keeps the interpreter lock while it runs, unlike other foreign functions.
_clear_async_exc = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


class Outcome(IntEnum):
    """What came of an interrupt."""

    #: The thread runs no code of the request.
    ELSEWHERE = 0
    #: It must not be broken off where it is, or does that by itself: try again.
    LATER = 1
    #: The exception is raised in it.
    RAISED = 2


class InterruptibleRegion:
    """The regions in which one thread runs user code; made by that thread, for itself."""

    __slots__ = (
        "__weakref__",
        "_armed_for",
        "_due",
        "_event",
        "_lock",
        "_raised_for",
        "_set_at",
        "enter",
        "is_set",
        "leave",
        "request",
        "thread",
    )

    def __init__(self) -> None:
        # Reentrant, so that a finalizer that runs amid the program's own work can go
        # through a region of its own.
        self._lock = RLock()
        self._lock.acquire()
        self.thread = get_ident()
        self._event: OneShotEvent | None = None
        #: The calling thread is about to run user code.
        self.enter: Callable[[], object] = self._lock.release
        #: It has returned from there.
        self.leave: Callable[[], object] = self._lock.acquire
        #: An interrupt was set, and perhaps not raised yet.
        self.is_set = False
        self._set_at = 0.0
        #: The request whose code the thread is to break off by itself, where it may.
        self._armed_for: object = None
        #: The request whose code is broken off when the program's own work is over.
        self._due: object = None
        #: The one whose code was, which who interrupts does not know yet.
        self._raised_for: object = None
        #: Whose code it is.
        self.request: object = None

    def run(self, request: object, function: Callable[..., T], *args: Any) -> T:
        """Calls user code, which an interrupt of `request` may break off."""
        self.request = request
        self.is_set = False
        self._due = None
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
        if self._armed_for is not None:
            self._armed_for = None
            disarm(self.thread)
        _clear_async_exc(self.thread, None)

    def shielded(self, function: Callable[..., T], *args: Any) -> T:
        """Calls what no interrupt may break off, from within user code or not."""
        try:
            self.leave()
            # What the thread itself is to raise waits until it is in user code again.
            if self.is_set and self._armed_for is None:
                self.clear_pending()
            return function(*args)
        finally:
            self.enter()
            if self._due is not None:
                self._raise_due()

    def _raise_due(self) -> None:
        """Raises the interrupt that came during the program's own work, in user code again."""
        if self._due is not self.request:
            self._due = None
        elif (
            self.is_current()
            # From the caller of `shielded` on. A call is a place for any exception, so locks
            # do not matter here.
            and _place_below(sys._getframe(2)) is Place.OPEN
        ):
            self._raise()

    def _on_event(self, frame: FrameType) -> None:
        """Raises the interrupt that the thread is armed for, if it may be raised in this frame."""
        if self.is_current() and place_of(frame, _RUN) is Place.OPEN:
            self._raise()

    def _raise(self) -> None:
        """Raises an interrupt in the calling thread, once, if one is still due."""
        # Nobody who interrupts is amid it then.
        self.leave()
        try:
            request = self.request
            is_due = request is not None and (self._due is request or self._armed_for is request)
            self._due = self._armed_for = None
            disarm(self.thread)
            if is_due:
                self._raised_for = request
        finally:
            self.enter()
        if is_due:
            raise Cancelled

    def reacquire(self) -> None:
        """Makes sure that the lock is held, after an exception.

        It may not be in Python 3.10, see above, and on the main thread, where the handler of
        a signal may have raised an exception while the thread waited for the lock.
        """
        while not self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock.acquire()
        if self.is_set:
            self.clear_pending()

    def is_current(self) -> bool:
        """Whether the calling thread is this one, and runs user code."""
        return self.thread == get_ident() and not self._lock._is_owned()  # type: ignore[attr-defined]

    def interrupt(self, request: object) -> Outcome:
        """Raises `Cancelled` in the thread, if it runs code of this request."""
        outcome, at = self._interrupt(request)
        if at is None:
            return outcome
        # It moves from one such place to the next: it is followed for a moment.
        end = time.process_time() + _FOLLOW_SECONDS
        interval = sys.getswitchinterval()
        sys.setswitchinterval(_FOLLOW_SWITCH)
        followed = sys.getswitchinterval()
        try:
            still = 0
            while at is not None and still < _STILL_TURNS and time.process_time() < end:
                before = at
                sleep(_STILL_SECONDS if still else 0)
                outcome, at = self._interrupt(request)
                still = still + 1 if at == before else 0
        finally:
            if sys.getswitchinterval() == followed:
                sys.setswitchinterval(interval)
        return outcome

    def _interrupt(self, request: object) -> tuple[Outcome, tuple[int, int] | None]:
        """The same, once; and where the thread is, if it is soon to be elsewhere."""
        if self.thread == get_ident() or self.request is not request:
            return Outcome.ELSEWHERE, None
        if not self._lock.acquire(blocking=False):
            return self._interrupt_own_work(request), None
        try:
            return self._interrupt_user_code(request)
        finally:
            self._lock.release()

    def _interrupt_own_work(self, request: object) -> Outcome:
        if self._raised_for is request:
            self._raised_for = self._due = None
            return Outcome.RAISED
        event = self._event
        if event is None:
            self._due = request
            return Outcome.LATER
        frame = frame_of(self.thread)
        if frame is None or _place_below(frame) is not Place.OPEN:
            return Outcome.LATER
        # Waiting for a lock is not broken off by an exception.
        self._due = None
        event.is_interrupt = True
        event.set()
        return Outcome.RAISED

    def _interrupt_user_code(self, request: object) -> tuple[Outcome, tuple[int, int] | None]:
        if _IS_EAGER and self.is_set and time.monotonic() - self._set_at < _AGAIN_SECONDS:
            return Outcome.RAISED, None
        frame = frame_of(self.thread)
        if frame is None or self.request is not request:
            return Outcome.ELSEWHERE, None
        offset = frame.f_lasti
        # After the frame was read: what the thread itself raises later, it moves for.
        if self._raised_for is request:
            self._raised_for = self._due = None
            return Outcome.RAISED, None
        self.is_set, was_set = True, self.is_set
        if arm(self.thread, frame, open_codes(frame, _RUN), self._on_event):
            self._armed_for = request
            return Outcome.LATER, None
        self.is_set = was_set
        if place_of(frame, _RUN) is Place.OPEN:
            # The thread may raise it before this one goes on. It cannot leave the region.
            was_set, self.is_set = self.is_set, True
            if set_if_at(self.thread, frame, offset, Cancelled):
                self._set_at = time.monotonic()
                self._due = None
                return Outcome.RAISED, None
            self.is_set = was_set
        return Outcome.LATER, (id(frame), offset)

    def wait(self, event: OneShotEvent, timeout: float = -1) -> bool:
        """Waits on behalf of user code, shielded; false if the event was not set in time.

        `timeout` is in seconds, -1 for as long as it takes. Raises `Cancelled` when it was an
        interrupt that set it.
        """
        self._event = event
        try:
            was_set = event.wait(timeout)
        finally:
            self._event = None
        if event.is_interrupt:
            raise Cancelled
        return was_set


#: Below this there is no user code.
_RUN = InterruptibleRegion.run.__code__


def _place_below(frame: FrameType) -> Place:
    """What a thread does that calls the program's own work."""
    here: FrameType | None = frame
    while here is not None and here.f_globals.get("__name__", "").startswith("erlang_port."):
        here = here.f_back
    return Place.OPEN if here is None else place_of_call(here, _RUN)


class InterruptibleCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine for an event loop to run, each of whose steps is user code.

    What lies between the steps is the loop's, and no interrupt finds its way there. When
    the coroutine is over, `ended` is called with what it returned and None, or with None
    and what it raised; not as user code.
    """

    __slots__ = ("__weakref__", "_ended", "_region", "_request", "coroutine")

    def __init__(
        self,
        region: InterruptibleRegion,
        request: object,
        coroutine: Coroutine[Any, Any, Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._region = region
        self._request = request
        self.coroutine = coroutine
        self._ended = ended

    def send(self, value: Any) -> Any:
        """Goes on to where the coroutine waits next."""
        return self._step(self.coroutine.send, value)

    def throw(self, *error: Any) -> Any:
        """The same, with an exception raised where it waits now."""
        # No frame keeps it: its traceback has these frames, and so would keep what the coroutine
        # had until the collector comes. A channel is closed when nobody has it any more.
        thrown = [error]
        del error
        return self._step(self._throw, thrown)

    def _throw(self, thrown: list[tuple[Any, ...]]) -> Any:
        return self.coroutine.throw(*thrown.pop())

    def _step(self, resume: Callable[..., Any], *args: Any) -> Any:
        try:
            return self._region.run(self._request, resume, *args)
        except StopIteration as end:
            self._ended(end.value, None)
        except BaseException as error:
            if getattr(self.coroutine, "cr_frame", None) is not None:
                # The interrupt was raised outside of the coroutine, which waits for
                # something that nobody would tell the loop of.
                return self._step(self._throw, [(error,)])
            self._ended(None, error)
        finally:
            self._region.request = None
        raise StopIteration

    def close(self) -> None:
        """Ends it where it waits."""
        self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.coroutine.__await__()


class OneShotEvent:
    """Wakes the one thread that waits for it; to set it twice does no harm."""

    __slots__ = ("_lock", "is_interrupt")

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()
        self.is_interrupt = False

    def wait(self, timeout: float = -1) -> bool:
        """Waits for `timeout` seconds, -1 for as long as it takes; false if it was not set."""
        return self._lock.acquire(timeout=timeout)

    def set(self) -> None:
        """From any thread, any number of times."""
        try:
            self._lock.release()
        except RuntimeError:
            pass  # It is set already.
