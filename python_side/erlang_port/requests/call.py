"""Calls: a function or an expression, run once, and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any

from erlang_port.current import context_of
from erlang_port.errors import Cancelled
from erlang_port.wire import frames

if TYPE_CHECKING:
    from erlang_port.worker import Worker

OK = b"\x83h\x02w\x02ok"
#: Results that need no look at their methods.
_PLAIN = frozenset((int, str, bool, float, bytes, list, dict, tuple, type(None)))
_ERROR = b"\x83h\x02w\x05error"


class Call:
    """One call, from its frame to its reply. Exactly one reply leaves."""

    def __init__(self, program: Worker, address: bytes, frame: bytes, offset: int) -> None:
        self.program = program
        self.address = address
        self.is_cancelled = False
        self.is_ended = False
        self.traceback = bool(frame[offset + 1] & frames.FLAG_TRACEBACK)
        self._frame = frame
        self._offset = offset
        self._task: asyncio.Task[Any] | None = None
        #: Whether it has sent messages that must arrive before its reply.
        self.has_sent = False

    # From other threads.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """A call has no window."""

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self.is_cancelled = True
        if self._task is not None:
            self.program.loop.call_soon_threadsafe(self._task.cancel)

    # On a thread.

    def run(self) -> None:
        """Calls the function; a coroutine is awaited on the event loop."""
        context = context_of(self)
        answer = context.run(self._answer)
        self._frame = b""
        if isinstance(answer, list):
            self._send(answer)
        else:
            self.program.loop.call_soon_threadsafe(lambda: context.run(self._start, answer))

    def _answer(self) -> list[Any] | Awaitable[Any]:
        region = self.program.region()
        try:
            return region.run(self, self._run)
        except BaseException as error:
            return self._error(error)
        finally:
            region.request = None

    def _run(self) -> list[Any] | Awaitable[Any]:
        """A reply, encoded, or what is to be awaited for it."""
        try:
            if self.is_cancelled:
                raise Cancelled
            value = self.call()
            if type(value) not in _PLAIN and isawaitable(value):
                return value
            return self._reply(value)
        except BaseException as error:
            return self._error(error)

    def call(self) -> Any:
        """Runs the user's code."""
        function, args, kwargs = self.program.targets.bind(self._frame, self._offset)
        return function(*args, **kwargs) if kwargs else function(*args)

    # On the loop, in the context in which the function was called.

    def _start(self, awaitable: Awaitable[Any]) -> None:
        loop = self.program.loop

        def awaited(reply: list[Any] | None, error: BaseException | None) -> None:
            if iscoroutine(awaitable):
                # A task that is cancelled before its first step never awaits it.
                awaitable.close()
            self._send(self._error(error or Cancelled()) if reply is None else reply)

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
        return [OK, *self.program.encoder().parts(value)]

    def _error(self, error: BaseException) -> list[Any]:
        if self.is_cancelled:
            error = Cancelled()
        return [_ERROR, self.program.reason(error, self.traceback)]

    def _send(self, buffers: list[Any]) -> None:
        self.is_ended = True
        kind = frames.REPLY
        if self.has_sent:
            # Behind the messages that it has sent.
            self.program.node.messages.flush()
            kind = frames.REPLY_AFTER_SENDS
        try:
            self.program.ended(self, kind, buffers)
        except frames.FrameTooLargeError as error:
            self.program.ended(self, kind, self._error(error))


class Exec(Call):
    """Code that runs in `__main__`, on the main thread, where signal handlers may be set."""

    def __init__(self, program: Worker, address: bytes, frame: bytes, offset: int) -> None:
        super().__init__(program, address, frame, offset - 1)
        self._code = bytes(frame[offset + 1 :])
        self.traceback = bool(frame[offset] & frames.FLAG_TRACEBACK)

    def call(self) -> None:
        self.program.execute(self._code.decode())
