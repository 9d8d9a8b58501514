"""What Python code asks of the node: messages to processes, calls of Erlang functions.

The functions of the module `erlang` come here.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable

from erlang_port.context import WorkerContext
from erlang_port.current import connect, current
from erlang_port.errors import ErlangError
from erlang_port.etf import decoder, incoming
from erlang_port.etf.terms import Atom, Pid, Port, Reference
from erlang_port.hints import TYPE_CHECKING, Any
from erlang_port.node import stdout
from erlang_port.node.blocking import BlockingWait, Lend
from erlang_port.node.byte_window import ByteWindow
from erlang_port.node.incoming import IncomingChannels
from erlang_port.node.logs import Logs
from erlang_port.node.lossy_channel import LossyChannel
from erlang_port.node.messages import LIMIT, Messages, is_fixed
from erlang_port.node.stdout import Devices, Output
from erlang_port.runtime.interrupt import InterruptibleRegion, OneShotEvent
from erlang_port.wire import frames

if TYPE_CHECKING:
    import asyncio

_TRIPLE = b"\x83h\x03"
_QUADRUPLE = b"\x83h\x04"
_CALL = b"w\x04call"
_WHEREIS = b"w\x07whereis"
_REGISTERED = b"w\x0aregistered"

_FULL = (
    "more than 8 MiB of messages are on their way to the node; in async code, await "
    "erlang.drain() before the next one"
)


class Waiter:
    """One call of an Erlang function: where its answer goes, and who is woken."""

    __slots__ = ("answer", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.answer: tuple[bytes, int] | None = None


class NodeClient:
    """The node as this worker sees it."""

    def __init__(self, context: WorkerContext, lend: Lend) -> None:
        self._context = context
        self._blocking = blocking = BlockingWait(context.region, context.loop, lend)
        writer, ticker = context.frame_writer, context.ticker
        self.messages = Messages(writer.put, ticker, context.encoder)
        self.calls = ByteWindow(LIMIT)
        self._waiters: dict[bytes, Waiter] = {}
        self._numbers = itertools.count()
        self._channels = IncomingChannels(self.waiter, self._ask_later, self.tell)
        #: Names of functions that the node was found to have.
        self._registered: set[str] = set()
        self.logs = Logs(context.encoder)
        printed = LossyChannel(writer, ticker, blocking, frames.OUTPUT, False, stdout.note)
        self._log = LossyChannel(writer, ticker, blocking, frames.LOG, True, self.logs.note)
        self._devices = Devices(
            lambda device: LossyChannel(
                writer, ticker, blocking, frames.OUTPUT, False, stdout.note, device
            )
        )
        self.stdout = Output(printed, self._devices, ticker)
        self._credits: dict[int, Callable[[int], None]] = {
            frames.SEND: self.messages.window.credit,
            frames.CALLBACK: self.calls.credit,
            frames.OUTPUT: printed.credit,
            frames.LOG: self._log.credit,
        }

    def handlers(self) -> dict[int, Callable[[bytes, bytes, int], None]]:
        """What is done for each kind of frame; on whichever thread reads."""
        return {
            frames.CALLBACK_RESULT: self._on_callback_result,
            frames.ACK: self._on_ack,
            frames.LEVEL: self._on_level,
            **self._channels.handlers(),
        }

    def open(self, level: int) -> None:
        """From now on user code finds the node, prints to it and logs to it from `level` on."""
        connect(self)
        incoming.connect(self._channels.arrived)
        sys.stdout = self.stdout
        self.logs.open(self._log, level)
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        connect(None)
        incoming.connect(None)
        self.stdout.disconnect()
        self.logs.disconnect()

    def disconnect(self) -> None:
        """The node reads no more: what is printed goes where its standard error goes."""
        connect(None)
        incoming.connect(None)
        self.stdout.disconnect()
        self.logs.disconnect()

    def close(self) -> None:
        """Sends what is held back."""
        self.stdout.close_all()

    # Frames from the node; on the thread that reads.

    def _on_ack(self, frame: bytes, address: bytes, offset: int) -> None:
        """The node says how much it has taken of what is sent in frames of one kind."""
        taken = frames.read_ack(frame, offset)
        if len(address) == 1:
            self._credits[address[0]](taken)
        else:
            self._devices.credit_more(address, taken)

    def _on_callback_result(self, frame: bytes, address: bytes, offset: int) -> None:
        """The answer to a call; it is decoded by the thread that waits for it."""
        waiter = self._waiters.pop(address, None)
        if waiter is not None:
            waiter.answer = frame, offset
            waiter.wake()

    def _on_level(self, frame: bytes, _address: bytes, offset: int) -> None:
        self.logs.set_level(frame[offset])

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
                if not messages.is_active:
                    self._blocking.shielded(self._blocking.region(), messages.flush)
                return
        else:
            term = self._context.encoder().buffers(term)
            size = sum(map(len, term))
        region = self._blocking.region()
        if messages.window.is_full():
            self._wait_for_window(messages.window, region)
        self._blocking.shielded(region, messages.put_term, address, term, size)

    def tell(self, pid: Pid, term: Any) -> None:
        """Sends a message at once, from any thread, and does not wait, however full it is."""
        buffers = self._context.encoder().buffers(term)
        self._blocking.shielded(self._blocking.region(), self._tell, pid.raw, buffers)

    def _tell(self, to: bytes, buffers: list[Any]) -> None:
        self.messages.put_term(to, buffers, sum(map(len, buffers)))
        self.messages.flush()

    def _destination(self, to: Any) -> bytes:
        kind = type(to)
        if kind is Pid or kind is Reference:
            return to.raw  # type: ignore[no-any-return]
        if isinstance(to, str):
            return self._context.encoder().encode(to)[1:]
        if kind is tuple and len(to) == 2 and all(isinstance(part, str) for part in to):
            return self._context.encoder().encode((Atom(to[0]), Atom(to[1])))[1:]
        raise TypeError(
            "a message goes to a Pid, a Reference, a name or (name, node), "
            f"not to a {type(to).__name__!r}"
        )

    def _wait_for_window(self, window: ByteWindow, region: InterruptibleRegion | None) -> None:
        if not self._blocking.may_wait(region):
            raise BlockingIOError(_FULL)
        while window.is_full():
            event = OneShotEvent()
            if window.add_waiter(event.set):
                self._blocking.wait(event, region)

    def waiter(self, why_not: str) -> tuple[Callable[[], object], Callable[[], object]]:
        """What wakes the calling thread, and what it then waits with, once.

        Where it must not wait, `why_not` says so.
        """
        region = self._blocking.region()
        if not self._blocking.may_wait(region):
            raise RuntimeError(why_not)
        event = OneShotEvent()
        return event.set, lambda: self._blocking.wait(event, region)

    async def drain(self) -> None:
        """See `erlang.drain`."""
        await self._drain(self.messages.window)

    async def _drain(self, window: ByteWindow) -> None:
        while window.is_full():
            loop = _running_loop()
            change = loop.create_future()
            if window.add_waiter(self._waker(loop, change)):
                await change

    def _waker(
        self, loop: asyncio.AbstractEventLoop, change: asyncio.Future[None]
    ) -> Callable[[], None]:
        def finish() -> None:
            if not change.done():
                change.set_result(None)

        def wake() -> None:
            if self._context.loop.runs_in(loop):
                self._context.loop.call_soon_threadsafe(finish)
                return
            try:
                loop.call_soon_threadsafe(finish)
            except RuntimeError:
                pass  # A loop of the user's own, closed meanwhile.

        return wake

    # Calls.

    def call(self, name: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        """See `erlang.call`."""
        return self._ask(_CALL, name, args, timeout)

    def whereis(self, name: str) -> Pid | Port | None:
        """See `erlang.whereis`."""
        found = self._ask(_WHEREIS, name, (), None)
        return found if isinstance(found, Pid | Port) else None

    def is_registered(self, name: str) -> bool:
        """Whether there is such a function. A name that was found is not asked for again."""
        if name not in self._registered and self._ask(_REGISTERED, name, (), None):
            self._registered.add(name)
        return name in self._registered

    async def acall(self, name: str, args: tuple[Any, ...]) -> Any:
        """See `erlang.acall`."""
        buffers = self._request(_CALL, name, args)
        await self._drain(self.calls)
        loop = _running_loop()
        change = loop.create_future()
        waiter = Waiter(self._waker(loop, change))
        address = self._blocking.shielded(self._blocking.region(), self._put, buffers, waiter)
        try:
            await change
        finally:
            self._waiters.pop(address, None)
        return _result(waiter)

    def _ask(self, kind: bytes, name: str, args: tuple[Any, ...], timeout: float | None) -> Any:
        region = self._blocking.region()
        # The node runs no code of the user's to say whether a name is registered.
        if self._blocking.is_loop(region) and kind is not _REGISTERED:
            raise RuntimeError(
                "erlang.call would hold up the event loop; await erlang.acall instead"
            )
        buffers = self._request(kind, name, args)
        deadline = -1.0 if timeout is None else time.monotonic() + timeout
        if self.calls.is_full():
            self._wait_for_window(self.calls, region)
        event = OneShotEvent()
        waiter = Waiter(event.set)
        address = self._blocking.shielded(region, self._put, buffers, waiter)
        try:
            left = -1.0 if timeout is None else max(0.0, deadline - time.monotonic())
            self._blocking.wait(event, region, left)
        finally:
            self._waiters.pop(address, None)
        if waiter.answer is None:
            raise TimeoutError(f"{name} has not answered within {timeout} s")
        return _result(waiter)

    def _ask_later(self, kind: bytes, buffers: list[Any]) -> None:
        """Asks the node for what it does not answer by a result."""
        region = self._blocking.region()
        self._blocking.shielded(region, self._put, [_TRIPLE, kind, *buffers], Waiter(lambda: None))

    def _request(self, kind: bytes, name: str, args: tuple[Any, ...]) -> list[Any]:
        if not isinstance(name, str):
            raise TypeError(f"a name is a str, not a {type(name).__name__!r}")
        encoder = self._context.encoder()
        # A str, so that no atom is made of a name.
        fields = [kind, encoder.encode(str(name))[1:], *encoder.buffers(list(args))]
        request = current.get()
        if request is None or kind is _WHEREIS:
            return [_TRIPLE, *fields]
        # For whom it asks: the node that the request came from may have the function.
        address = request.address
        return [_QUADRUPLE, *fields, b"m%b%b" % (len(address).to_bytes(4, "big"), address)]

    def _put(self, buffers: list[Any], waiter: Waiter) -> bytes:
        address = b"%x" % next(self._numbers)
        self._waiters[address] = waiter
        try:
            # What was sent before arrives before.
            self.messages.flush()
            size = sum(map(len, buffers))
            header = frames.header(frames.CALLBACK, address, size)
            self.calls.sent += size
            self._context.frame_writer.put([header, *buffers], len(header) + size)
        except BaseException:
            del self._waiters[address]
            raise
        return address


def _result(waiter: Waiter) -> Any:
    """Decodes an answer; raises ErlangError, and UnicodeDecodeError as `decoder.decode` does."""
    assert waiter.answer is not None
    frame, offset = waiter.answer
    waiter.answer = None
    # {ok, Result} or {error, Class, Reason, Stacktrace, Text}.
    if frame[offset + 2] == 2:
        return decoder.decode(frame, offset)[1]
    try:
        failure = decoder.decode(frame, offset)
    except UnicodeDecodeError:
        failure = decoder.decode(frame, offset, "bytes")
    raise ErlangError(*failure[1:])


def _running_loop() -> asyncio.AbstractEventLoop:
    """The loop of the calling coroutine."""
    import asyncio  # Which whoever runs it has imported.

    return asyncio.get_running_loop()
