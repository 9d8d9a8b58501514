"""A stream of an async iterator: a task on the worker's event loop.

Values that the generator yields without giving way to the loop share a frame; as soon
as it awaits something, what it has yielded leaves. So no value waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from inspect import isawaitable, iscoroutine
from typing import TYPE_CHECKING, Any

from erlang_port.current import context_of, current
from erlang_port.errors import Cancelled
from erlang_port.requests.stream import Stream
from erlang_port.wire import frames

if TYPE_CHECKING:
    from erlang_port.worker import Worker

#: A generator with longer runs than this seldom awaits anything: after each run it gives
#: way. A larger number lets it hold the loop for longer, a smaller one costs those that
#: pause by themselves a turn of the loop.
FIRST_RUN = 8


class AsyncStream(Stream):
    """Runs as a task; all methods but `credit` and `cancel` are called on the loop."""

    def __init__(
        self, program: Worker, address: bytes, options: frames.StreamOptions, flags: int
    ) -> None:
        super().__init__(program, address, options, flags)
        #: What the function returned: an async iterable, or an awaitable of anything.
        self.source: Any = None
        self.options = options
        #: In which that function was called, until the task has a copy of it.
        self.context: Context | None = None
        self._pending: list[Any] = []
        self._flush_is_due = False
        #: How many values may be pending: more for a generator that does not await, as
        #: long as they are small.
        self._batch_size = 1
        self._frame_bytes = 0
        self._has_begun = False
        #: Whether it ended by itself on a cancellation that may still be on its way.
        self._cancel_observed = False
        self._failure: BaseException | None = None
        self._task: asyncio.Task[Any] | None = None
        self._change: asyncio.Future[None] | None = None

    # From other threads.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        self.window.credit(taken, taken_bytes, demand)
        if self._change is not None or self._pending:
            self.program.loop.call_soon_threadsafe(self._resume)

    def cancel(self) -> None:
        self.is_cancelled = True
        self.program.loop.call_soon_threadsafe(self._cancel_task)

    # On the loop.

    def start(self) -> None:
        """Makes the task."""
        context, self.context = self.context or context_of(self), None
        self._task = context.run(self.program.loop.create_task, self, self.run(), self._ended)

    def _cancel_task(self) -> None:
        if self._cancel_observed:
            # It ends already: a cancellation would break off its finally blocks.
            self._cancel_observed = False
        elif self._has_begun and self._task is not None:
            # A task that is cancelled before its first step never takes one (asyncio).
            self._task.cancel()

    def _resume(self) -> None:
        change, self._change = self._change, None
        if change is None:
            # The generator is at work, or waits for something else: what it had yielded
            # and did not fit goes now.
            self._flush_when_idle()
        elif not change.done():
            change.set_result(None)

    async def run(self) -> Callable[[], None]:
        """From the first value to the last; returns what is to be done then."""
        current.set(self)
        error: BaseException | None = None
        iterator: Any = None
        source, self.source = self.source, None
        self._has_begun = True
        try:
            if self.is_cancelled:
                if iscoroutine(source):
                    source.close()
                raise Cancelled
            while isawaitable(source):
                source = await source
            if not hasattr(type(source), "__aiter__"):
                return lambda: self.program.become_sync(self, source)
            iterator = source.__aiter__()
            await self._iterate(iterator)
        except BaseException as raised:
            error = self._failure or raised
        try:
            await self._drain()
        except BaseException as raised:
            error = error or raised
        try:
            # An async generator is closed by aclose() alone: its finally blocks may await.
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        except BaseException as raised:
            error = error or raised
        if self.is_cancelled:
            error = Cancelled()
        reason = None if error is None else self.reason(error)
        return lambda: self.finish(reason)

    def _ended(self, then: Callable[[], None] | None, error: BaseException | None) -> None:
        if then is not None:
            then()
        else:
            self.finish(self.reason(error or Cancelled()))

    async def _iterate(self, iterator: AsyncIterator[Any]) -> None:
        self._prepare_to_hold()
        step, hold = iterator.__anext__, self.hold
        pending = self._pending
        loop = self.program.loop
        # Values that may be appended before the window is looked at again.
        budget = 0
        while True:
            if budget > 0:
                budget -= 1
            else:
                room = self.available() - len(pending)
                is_long = pending and self.held_bytes > self.run_bytes
                if room > 0 and len(pending) < self._batch_size and not is_long:
                    budget = min(room, self._batch_size - len(pending))
                    continue
                self._flush()
                if self.left == 0:
                    return
                if pending or self.available() <= 0:
                    await self._wait_for_room()
                self._fit_run()
                if self._batch_size > FIRST_RUN:
                    # One that never awaits anything lets the others have a turn.
                    await asyncio.sleep(0)
                continue
            try:
                value = await step()
            except StopAsyncIteration:
                return
            if self._failure is not None:
                raise self._failure
            if self.is_cancelled:
                # It took no notice, or has not been told yet.
                self._cancel_observed = True
                raise Cancelled
            pending.append(hold(value))
            if self.held_bytes > self.run_bytes:
                budget = 0
            if not self._flush_is_due:
                self._flush_is_due = True
                loop.call_soon(self._flush_when_idle)

    def _fit_run(self) -> None:
        """The next run is twice as long, where what it holds is small."""
        if self._frame_bytes * 2 <= self.run_bytes:
            self._batch_size = min(self._batch_size * 2, self.longest_run)
        else:
            self._batch_size = max(1, self._batch_size // 2)

    async def _drain(self) -> None:
        """What was yielded before the end leaves before it, when there is room."""
        self._flush()
        while self._pending:
            await self._wait_for_room()

    def _flush_when_idle(self) -> None:
        self._flush_is_due = False
        if self.is_ended:
            return
        try:
            self.program.loop.run_user_code(self, self._flush)
        except BaseException as failure:
            self._failure = failure
            self._cancel_task()

    def _flush(self) -> None:
        """Sends what fits; what does not stays pending until there is room."""
        pending = self._pending
        region = self.program.loop.region
        assert region is not None
        while pending:
            buffers, size, count, error = self.frame(pending)
            if count:
                if self.is_cancelled:
                    pending.clear()
                    return
                if not region.shielded(self._put, buffers, size, count):
                    return
            if error is not None:
                pending.clear()
                raise error

    def _put(self, buffers: list[Any], size: int, count: int) -> bool:
        if not self.fits(size):
            return False
        del self._pending[:count]
        self.sent(count, size)
        self.held_bytes = 0
        self.program.put(buffers, size, False)
        self._frame_bytes = size
        return True

    async def _wait_for_room(self) -> None:
        while self._pending or self.available() <= 0:
            self._change = asyncio.get_running_loop().create_future()
            self._flush()
            # A credit that came before the future was there rang nobody.
            if self.left == 0 or (not self._pending and self.available() > 0):
                break
            await self._change
        self._change = None
