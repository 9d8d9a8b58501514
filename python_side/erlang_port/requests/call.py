"""Calls: a function, an expression or code, run once, and its result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CoroutineType

from erlang_port.context import EndRequest, WorkerContext
from erlang_port.current import context_of
from erlang_port.errors import Cancelled
from erlang_port.hints import TYPE_CHECKING, Any
from erlang_port.requests.handles import Handles
from erlang_port.runtime.awaitable import is_awaitable
from erlang_port.wire import frames

if TYPE_CHECKING:
    import asyncio

#: Finds what is to be called: a function, its arguments, its keyword arguments.
Bind = Callable[..., tuple[Callable[..., Any], list[Any], dict[str, Any]]]

OK = b"\x83h\x02w\x02ok"
#: Results that are not checked for methods, such as `__await__`.
_PLAIN = frozenset((int, str, bool, float, bytes, list, dict, tuple, type(None)))
_ERROR = b"\x83h\x02w\x05error"


class Call:
    """One call, from its frame to its reply. Exactly one reply leaves."""

    is_stream = False
    is_cancelled = False
    is_ended = False
    has_slot = False
    has_sent = False
    #: Names and metadata, see `about.py`.
    about = b""
    #: The I/O device that it prints to; none is the node's `user`.
    output = b""

    def __init__(
        self,
        context: WorkerContext,
        end: EndRequest,
        address: bytes,
        flags: int,
        bind: Bind,
        source: tuple[Any, ...],
        handles: Handles | None = None,
    ) -> None:
        self.context = context
        self._end = end
        self.address = address
        self.traceback = bool(flags & frames.FLAG_TRACEBACK)
        #: Holds the arguments, until they have been used.
        self._source: tuple[Any, ...] | None = source
        self._bind = bind
        #: They keep the result, if a handle of it is wanted.
        self._handles = handles
        self._task: asyncio.Task[Any] | None = None

    # From other threads.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """A call has no window."""

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self.is_cancelled = True
        if self._task is not None:
            self.context.loop.call_soon_threadsafe(self._task.cancel)

    # On a thread.

    def run(self) -> None:
        """Calls the function; a coroutine is awaited on the event loop."""
        variables = context_of(self)
        region = self.context.region()
        answer: list[Any] | Awaitable[Any]
        try:
            answer = variables.run(region.run, self, self._run)
        except BaseException as error:
            answer = variables.run(self._error, error)
        finally:
            region.request = None
        self._source = None
        if isinstance(answer, list):
            self._send(answer)
        else:
            self.context.loop.call_soon_threadsafe(lambda: variables.run(self._start, answer))

    def _run(self) -> list[Any] | Awaitable[Any]:
        """A reply, encoded, or what is to be awaited for it."""
        try:
            if self.is_cancelled:
                raise Cancelled
            assert self._source is not None
            function, args, kwargs = self._bind(*self._source)
            value = function(*args, **kwargs) if kwargs else function(*args)
            if type(value) not in _PLAIN and is_awaitable(value):
                return value  # type: ignore[no-any-return]
            return self._reply(value)
        except BaseException as error:
            return self._error(error)

    # On the loop, in the context in which the function was called.

    def _start(self, awaitable: Awaitable[Any]) -> None:
        loop = self.context.loop

        def awaited(reply: list[Any] | None, error: BaseException | None) -> None:
            if isinstance(awaitable, CoroutineType):
                # A task that is cancelled before its first step never awaits it.
                awaitable.close()
            self._send(self._error(error or Cancelled()) if reply is None else reply)

        if self.is_cancelled:
            # Its first step may be taken at once.
            awaited(None, None)
            return
        self._task = loop.create_task(self, self._await(awaitable), awaited)
        if self.is_cancelled:
            self._task.cancel()

    async def _await(self, awaitable: Awaitable[Any]) -> list[Any]:
        try:
            return self._reply(await awaitable)
        except BaseException as error:
            return self._error(error)

    # Either.

    def _reply(self, value: Any) -> list[Any]:
        if self._handles is not None:
            value = self._handles.keep(self.address, value)
        return [OK, *self.context.encoder().buffers(value)]

    def _error(self, error: BaseException) -> list[Any]:
        if self.is_cancelled:
            error = Cancelled()
        return [_ERROR, self.context.reason(error, self.traceback)]

    def _send(self, buffers: list[Any]) -> None:
        self.is_ended = True
        if self._handles is not None:
            buffers = self._with_handle(self._handles, buffers)
        if self.output:
            self.context.flush_output(self.output)
        kind = frames.REPLY
        if self.has_sent:
            # Behind the messages that it has sent.
            self.context.flush_messages()
            kind = frames.REPLY_AFTER_SENDS
        try:
            self._end(self, kind, buffers)
        except frames.FrameTooLargeError as error:
            self._end(self, kind, self._error(error))

    def _with_handle(self, handles: Handles, buffers: list[Any]) -> list[Any]:
        """The reply, and an object that is kept only if its handle arrives.

        Whoever cancels says so first and looks for the object then, and here it is the other
        way round: one of both finds it.
        """
        if self.is_cancelled:
            buffers = self._error(Cancelled())
        if buffers[0] is _ERROR:
            work = handles.release_made_by(self.address)
            if work is not None:
                self.context.threads.submit(work)
        return buffers
