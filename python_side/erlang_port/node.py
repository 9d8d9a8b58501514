"""What Python code asks of the node: messages to processes, calls of Erlang functions.

The functions of the module `erlang` come here.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erlang.errors import ErlangError
from erlang.terms import Atom, Pid, Port, Reference
from erlang_port import etf, frames, output
from erlang_port.connection import connect
from erlang_port.current import current
from erlang_port.interrupt import Bell, UserCode
from erlang_port.logs import Logs
from erlang_port.lossy import LossyChannel
from erlang_port.messages import LIMIT, Messages, is_fixed
from erlang_port.output import Output
from erlang_port.room import Room

if TYPE_CHECKING:
    from erlang_port.program import Program

_TRIPLE = b"\x83h\x03"
_CALL = b"w\x04call"
_WHEREIS = b"w\x07whereis"

_FULL = (
    "more than 8 MiB of messages are on their way to the node; in async code, await "
    "erlang.drain() before the next one"
)


class Waiter:
    """One call of an Erlang function: where its answer goes, and who is woken."""

    __slots__ = ("answer", "ring")

    def __init__(self, ring: Callable[[], object]) -> None:
        self.ring = ring
        self.answer: tuple[bytes, int] | None = None


class Node:
    """The node as this worker sees it."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.messages = Messages(program)
        self.calls = Room(LIMIT)
        self._waiters: dict[bytes, Waiter] = {}
        self._numbers = itertools.count()
        self.logs = Logs(program.encoder)
        printed = LossyChannel(program, frames.OUTPUT, False, output.note)
        self._log = LossyChannel(program, frames.LOG, True, self.logs.note)
        self.stdout = Output(printed, program.ticker)
        self._credits: dict[int, Callable[[int], None]] = {
            frames.SEND: self.messages.room.credit,
            frames.REQUEST: self.calls.credit,
            frames.OUTPUT: printed.credit,
            frames.LOG: self._log.credit,
        }

    def open(self, level: int) -> None:
        """From now on user code finds the node, prints to it and logs to it from `level` on."""
        connect(self)
        sys.stdout = self.stdout
        self.logs.open(self._log, level)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        connect(None)
        self.stdout.forked()
        self.logs.forked()

    def close(self) -> None:
        """Sends what is held back."""
        self.stdout.flush_all()

    # Frames from the node; on the thread that reads.

    def taken(self, frame: bytes, address: bytes, offset: int) -> None:
        """The node has taken so much of what is sent in frames of one kind."""
        self._credits[address[0]](frames.read_taken(frame, offset))

    def answer(self, frame: bytes, address: bytes, offset: int) -> None:
        """The answer to a call; it is decoded by the thread that waits for it."""
        waiter = self._waiters.pop(address, None)
        if waiter is not None:
            waiter.answer = frame, offset
            waiter.ring()

    # Of the request that the calling code runs for.

    def is_cancelled(self, request: Any) -> bool:
        """Whether nobody wants more of it."""
        # A stream that was found to be async goes on as another object.
        latest = self._program.requests.get(request.address)
        return latest is None or latest.is_cancelled or request.is_cancelled

    # Messages.

    def send(self, to: Any, term: Any) -> None:
        """See `erlang.send`."""
        address = to.raw if type(to) is Pid else self._destination(to)
        size: int | None = None
        messages = self.messages
        request = current.get()
        if request is not None:
            request.has_sent = True
        if is_fixed(term):
            if messages.put_fixed(address, term):
                if not messages.is_hot:
                    self._shielded(messages.flush)
                return
        else:
            term = self._program.encoder().parts(term)
            size = sum(map(len, term))
        if messages.room.is_full():
            self._wait_for_room(messages.room, self.span())
        self._shielded(messages.put, address, term, size)

    def _destination(self, to: Any) -> bytes:
        kind = type(to)
        if kind is Pid or kind is Reference:
            return to.raw  # type: ignore[no-any-return]
        if isinstance(to, str):
            return self._program.encoder().encode(to)[1:]
        if kind is tuple and len(to) == 2 and all(isinstance(part, str) for part in to):
            return self._program.encoder().encode((Atom(to[0]), Atom(to[1])))[1:]
        raise TypeError(
            "a message goes to a Pid, a Reference, a name or (name, node), "
            f"not to a {type(to).__name__!r}"
        )

    def _shielded(self, function: Callable[..., None], *args: Any) -> None:
        """Calls what no interrupt may break off: the writing of a frame."""
        span = self.span()
        if span is None:
            function(*args)
        else:
            span.shielded(function, *args)

    def span(self) -> UserCode | None:
        """The span of user code that the calling thread is in, if interrupts may find it there."""
        span = self._program.user_code()
        return span if span.is_here() else None

    def may_wait(self, span: UserCode | None) -> bool:
        """Whether the calling thread, in this span of user code, may wait for the node."""
        if span is None:
            # A finalizer may run in a thread that everything waits for.
            return not threading.current_thread().name.startswith("erlang_port")
        return span is not self._program.loop.user_code

    def _wait_for_room(self, room: Room, span: UserCode | None) -> None:
        if not self.may_wait(span):
            raise BlockingIOError(_FULL)
        while room.is_full():
            bell = Bell()
            if room.when_changed(bell.ring):
                self.wait(bell, span)

    def wait(self, bell: Bell, span: UserCode | None, timeout: float = -1) -> bool:
        """Waits on the calling thread, whose place others may have for so long."""
        if span is None:
            return bell.wait(timeout)
        return span.shielded(self._wait_lent, bell, span, timeout)

    def _wait_lent(self, bell: Bell, span: UserCode, timeout: float) -> bool:
        give_back = self._program.lend(current.get())
        try:
            return span.wait(bell, timeout)
        finally:
            give_back()

    async def drain(self) -> None:
        """See `erlang.drain`."""
        await self._drain(self.messages.room)

    async def _drain(self, room: Room) -> None:
        while room.is_full():
            loop = asyncio.get_running_loop()
            change = loop.create_future()
            if room.when_changed(self._waker(loop, change)):
                await change

    def _waker(
        self, loop: asyncio.AbstractEventLoop, change: asyncio.Future[None]
    ) -> Callable[[], None]:
        def wake() -> None:
            if not change.done():
                change.set_result(None)

        def ring() -> None:
            if self._program.loop.runs_in(loop):
                self._program.loop.call(wake)
                return
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:
                pass  # A loop of the user's own, closed meanwhile.

        return ring

    # Calls.

    def call(self, name: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        """See `erlang.call`."""
        return self._ask(_CALL, name, args, timeout)

    def whereis(self, name: str) -> Pid | Port | None:
        """See `erlang.whereis`."""
        found = self._ask(_WHEREIS, name, (), None)
        return found if isinstance(found, Pid | Port) else None

    async def acall(self, name: str, args: tuple[Any, ...]) -> Any:
        """See `erlang.acall`."""
        parts = self._request(_CALL, name, args)
        await self._drain(self.calls)
        loop = asyncio.get_running_loop()
        change = loop.create_future()
        waiter = Waiter(self._waker(loop, change))
        address = self._put_shielded(parts, waiter, self.span())
        try:
            await change
        finally:
            self._waiters.pop(address, None)
        return _result(waiter)

    def _ask(self, kind: bytes, name: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        span = self.span()
        if span is self._program.loop.user_code:
            raise RuntimeError(
                "erlang.call would hold up the event loop; await erlang.acall instead"
            )
        parts = self._request(kind, name, args)
        deadline = -1.0 if timeout is None else time.monotonic() + timeout
        if self.calls.is_full():
            self._wait_for_room(self.calls, span)
        bell = Bell()
        waiter = Waiter(bell.ring)
        address = self._put_shielded(parts, waiter, span)
        try:
            left = -1.0 if timeout is None else max(0.0, deadline - time.monotonic())
            self.wait(bell, span, left)
        finally:
            self._waiters.pop(address, None)
        if waiter.answer is None:
            raise TimeoutError(f"{name} has not answered within {timeout} s")
        return _result(waiter)

    def _request(self, kind: bytes, name: str, args: tuple[Any, ...]) -> list[Any]:
        if not isinstance(name, str):
            raise TypeError(f"a name is a str, not a {type(name).__name__!r}")
        encoder = self._program.encoder()
        # A str, so that no atom is made of a name.
        return [_TRIPLE, kind, encoder.encode(str(name))[1:], *encoder.parts(list(args))]

    def _put_shielded(self, parts: list[Any], waiter: Waiter, span: UserCode | None) -> bytes:
        return self._put(parts, waiter) if span is None else span.shielded(self._put, parts, waiter)

    def _put(self, parts: list[Any], waiter: Waiter) -> bytes:
        address = b"%x" % next(self._numbers)
        self._waiters[address] = waiter
        try:
            # What was sent before arrives before.
            self.messages.flush()
            size = sum(map(len, parts))
            header = frames.header(frames.REQUEST, address, size)
            self.calls.sent += size
            self._program.outbox.put([header, *parts], len(header) + size)
        except BaseException:
            del self._waiters[address]
            raise
        return address


def _result(waiter: Waiter) -> Any:
    """Decodes an answer; raises ErlangError, and UnicodeDecodeError as `etf.decode` does."""
    assert waiter.answer is not None
    frame, offset = waiter.answer
    waiter.answer = None
    # {ok, Result} or {error, Class, Reason, Stacktrace, Text}.
    if frame[offset + 2] == 2:
        return etf.decode(frame, offset)[1]
    try:
        failure = etf.decode(frame, offset)
    except UnicodeDecodeError:
        failure = etf.decode(frame, offset, "bytes")
    raise ErlangError(*failure[1:])
