"""Calls: a function or an expression, run once, and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from erlang_port import frames
from erlang_port.current import current
from erlang_port.interrupt import UserCode
from erlang_port.reasons import Cancelled

if TYPE_CHECKING:
    from erlang_port.program import Program

OK = b"\x83h\x02w\x02ok"
#: Results that need no look at their methods.
_PLAIN = frozenset((int, str, bool, float, bytes, list, dict, tuple, type(None)))
_ERROR = b"\x83h\x02w\x05error"


class Call:
    """One call, from its frame to its reply. Exactly one reply leaves."""

    def __init__(self, program: Program, address: bytes, frame: bytes, offset: int) -> None:
        self.program = program
        self.address = address
        self.user_code = UserCode()
        self.is_cancelled = False
        self.is_ended = False
        self.traceback = bool(frame[offset + 1] & frames.FLAG_TRACEBACK)
        self._frame = frame
        self._offset = offset
        self._task: asyncio.Task[None] | None = None
        #: Whether it has sent messages that must arrive before its reply.
        self.has_sent = False

    # From other threads.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """A call has no window."""

    def cancel(self) -> None:
        """Nobody waits for the result any more."""
        self.is_cancelled = True
        if self._task is not None:
            self.program.loop.call(self._task.cancel)

    def interrupt(self) -> bool:
        """Breaks the code off where it is; false when it has ended."""
        if not self.is_ended:
            if self._task is not None:
                self.program.loop.interrupt(self._task)
            else:
                self.user_code.interrupt()
        return not self.is_ended

    # On a thread.

    def run(self) -> None:
        """Calls the function; a coroutine is awaited on the event loop."""
        user_code = self.user_code
        current.set(self)
        user_code.enter()
        try:
            if self.is_cancelled:
                raise Cancelled
            function, args, kwargs = self.program.targets.bind(self._frame, self._offset)
            value = function(*args, **kwargs) if kwargs else function(*args)
            is_awaitable = type(value) not in _PLAIN and isawaitable(value)
        except BaseException as error:
            user_code.leave()
            self.reply_error(error)
            return
        user_code.leave()
        self._frame = b""
        if is_awaitable:
            self.program.loop.call(lambda: self._start(value))
        else:
            self.reply(value)

    # On the loop.

    def _start(self, awaitable: Awaitable[Any]) -> None:
        self._task = self.program.loop.create_task(self._await(awaitable))
        if self.is_cancelled:
            self._task.cancel()

    async def _await(self, awaitable: Awaitable[Any]) -> None:
        current.set(self)
        try:
            value = await awaitable
        except BaseException as error:
            self.reply_error(error)
        else:
            self.reply(value)

    # Either.

    def reply(self, value: Any) -> None:
        """Sends the result; one that is no term is an error of this call."""
        try:
            buffers = [OK, *self.program.encoder().parts(value)]
        except Exception as error:
            self.reply_error(error)
            return
        self._send(buffers)

    def reply_error(self, error: BaseException) -> None:
        """Sends the reason."""
        if self.is_cancelled:
            error = Cancelled()
        self._send([_ERROR, self.program.reason(error, self.traceback)])

    def _send(self, buffers: list[Any]) -> None:
        self.is_ended = True
        if not self.has_sent:
            self.program.ended(self, frames.REPLY, buffers)
            return
        # Behind the messages that it has sent.
        self.program.node.messages.flush()
        self.program.ended(self, frames.ORDERED, buffers)


class Execution(Call):
    """Code that runs in `__main__`, on the main thread, where signal handlers may be set."""

    def __init__(self, program: Program, address: bytes, frame: bytes, offset: int) -> None:
        super().__init__(program, address, frame, offset - 1)
        self._code = bytes(frame[offset + 1 :])
        self.traceback = bool(frame[offset] & frames.FLAG_TRACEBACK)

    def run(self) -> None:
        current.set(self)
        self.user_code.enter()
        try:
            if self.is_cancelled:
                raise Cancelled
            self.program.execute(self._code.decode())
        except BaseException as error:
            self.user_code.leave()
            self.reply_error(error)
            return
        self.user_code.leave()
        self.reply(None)
