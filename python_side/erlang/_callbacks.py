"""From a function that takes a callback to a generator.

::

    function, in a thread -> callback -> Handover -> generator
                          <- waits while it is full <-
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextvars import copy_context

from erlang_port.current import has_node, node
from erlang_port.errors import Cancelled
from erlang_port.handover import EMPTY, END, next_value, next_value_async
from erlang_port.hints import Any


def from_callback(
    function: Callable[..., Any],
    *args: Any,
    maxsize: int = 8,
    raises: bool = False,
    **kwargs: Any,
) -> Generator[Any, None, Any]:
    """Runs a function that takes a callback, in a thread, and yields what the callback is given.

    Calls ``function(*args, callback, **kwargs)``. The callback waits while `maxsize` values have
    not been taken, so the function goes no faster than whoever reads. Several arguments of one
    call are yielded as a tuple. When nobody wants more, the callback returns true (before that,
    False); with `raises` it raises `Cancelled` in place of that, for a function that ignores
    what its callback returns. The generator ends when the function returns, and raises what the
    function raises; what it returns is the value of ``yield from``.

    The thread starts with the first `next`, in a copy of the context, so that `stream` and
    `cancelled` are known there. A generator that is closed does not wait for its thread.
    """
    handover = Handover(maxsize, raises)
    return _values(handover, lambda: function(*args, handover.put, **kwargs))


def afrom_callback(
    function: Callable[..., Any],
    *args: Any,
    maxsize: int = 8,
    raises: bool = False,
    **kwargs: Any,
) -> AsyncGenerator[Any, None]:
    """The same as an async generator, on any event loop; see `from_callback`."""
    handover = Handover(maxsize, raises)
    return _async_values(handover, lambda: function(*args, handover.put, **kwargs))


class Handover:
    """Values on their way from the thread of the function to the generator."""

    def __init__(self, maxsize: int, raises: bool) -> None:
        import threading  # Not for the types alone, see test_erlang_api.

        if isinstance(maxsize, bool) or not isinstance(maxsize, int) or maxsize < 1:
            raise ValueError(f"maxsize is a positive number of values, not {maxsize!r}")
        self._maxsize = maxsize
        self._raises = raises
        self._new_lock = threading.Lock
        self._lock = threading.Lock()
        self._values: deque[Any] = deque()
        #: Wakes the generator, which waits for a value.
        self._wake: Callable[[], object] | None = None
        #: Each wakes a callback, which waits until its value fits.
        self._waiting: list[Callable[[], object]] = []
        self._is_closed = False
        self._is_over = False
        self._result: Any = None
        self._error: BaseException | None = None

    def start(self, call: Callable[[], Any]) -> None:
        """Runs the function in a thread of its own."""
        import threading

        context = copy_context()
        # A function that never ends does not keep the interpreter.
        threading.Thread(
            target=lambda: context.run(self._run, call), name="erlang.from_callback", daemon=True
        ).start()

    # In the thread of the function, or any other that has the callback.

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._result = call()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._is_over = True
            self._release(self._waiting)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()
        elif self._is_closed and isinstance(self._error, Exception):
            import logging

            logging.getLogger("erlang.from_callback").debug(
                "it failed when nobody wanted more", exc_info=self._error
            )

    def put(self, *values: Any) -> bool:
        """The callback."""
        value = values[0] if len(values) == 1 else values
        while True:
            with self._lock:
                if self._is_closed or self._is_over:
                    break
                if len(self._values) < self._maxsize:
                    self._values.append(value)
                    wake, self._wake = self._wake, None
                    if wake is not None:
                        wake()
                    return False
                waiter = self._new_lock()
                waiter.acquire()
                self._waiting.append(waiter.release)
            waiter.acquire()
        if self._raises:
            raise Cancelled
        return True

    # In the generator.

    def take(self, wake: Callable[[], object] | None) -> Any:
        """The next value, END, or EMPTY; see erlang_port.handover."""
        with self._lock:
            if self._values:
                value = self._values.popleft()
                # Not for each value, so that the two threads do not take turns for each.
                if self._waiting and len(self._values) <= self._maxsize // 2:
                    self._release(self._waiting)
                return value
            if not self._is_over:
                self._wake = wake
                return EMPTY
        error, self._error = self._error, None
        if error is None:
            return END
        try:
            raise error
        finally:
            del error  # Its traceback has this frame.

    def close(self) -> None:
        """Nobody wants more."""
        with self._lock:
            self._is_closed = True
            self._wake = None
            self._values.clear()
            self._release(self._waiting)

    @property
    def result(self) -> Any:
        """What the function has returned."""
        return self._result

    @staticmethod
    def _release(waiting: list[Callable[[], object]]) -> None:
        for wake in waiting:
            wake()
        waiting.clear()


def _values(handover: Handover, call: Callable[[], Any]) -> Generator[Any, None, Any]:
    _waiter()  # Raises on a worker's event loop, before anything has run.
    handover.start(call)
    try:
        while (value := next_value(handover.take, _waiter)) is not END:
            yield value
        return handover.result
    finally:
        handover.close()


def _waiter() -> tuple[Callable[[], object], Callable[[], object]]:
    """What wakes the calling thread, and what it waits with.

    In a worker the wait can be interrupted, and others may use the thread's slot meanwhile.
    """
    if has_node():
        return node().waiter(  # type: ignore[no-any-return]
            "erlang.from_callback would hold up the event loop; use erlang.afrom_callback"
        )
    import threading

    lock = threading.Lock()
    lock.acquire()
    return lock.release, lock.acquire


async def _async_values(handover: Handover, call: Callable[[], Any]) -> AsyncGenerator[Any, None]:
    handover.start(call)
    try:
        while (value := await next_value_async(handover.take)) is not END:
            yield value
    finally:
        handover.close()
