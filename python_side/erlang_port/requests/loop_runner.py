"""Runs an async iterator: a task on the worker's event loop.

Values that the generator yields without giving way to the loop share a frame; as soon
as it awaits something, what it has yielded leaves. So no value waits for a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from types import AsyncGeneratorType, CoroutineType

from erlang_port.batching import RUN_GROWTH
from erlang_port.current import context_of, current
from erlang_port.errors import Cancelled
from erlang_port.hints import Any
from erlang_port.requests.loop_reader import LoopReader
from erlang_port.requests.stream import Stream
from erlang_port.runtime.awaitable import is_awaitable

#: A generator with longer runs than this seldom awaits anything: after each run it gives
#: way. A larger number lets it hold the loop for longer, a smaller one costs those that
#: pause by themselves a turn of the loop.
FIRST_RUN = 8


class _Rest:
    """What is left of an async iterator, which need not be iterable itself."""

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._iterator


class LoopRunner:
    """Runs as a task; all methods but `resume` and `cancel` are called on the loop."""

    def __init__(
        self,
        stream: Stream,
        source: Any,
        variables: Context | None,
        iterate_on_thread: Callable[[Stream, Any], None],
        reader: LoopReader,
    ) -> None:
        self.stream = stream
        self._worker = stream.context
        self._reader = reader
        #: What the function returned: an async iterable, or an awaitable of anything.
        self._source = source
        #: The context variables with which it was called, until the task has a copy of them.
        self._variables = variables
        #: What becomes of a coroutine's result that is iterated on a thread.
        self._iterate_on_thread = iterate_on_thread
        self._pending: list[Any] = []
        #: One for each value that may be appended before anything is checked. Whoever clears
        #: the list, on any thread, has it checked when the generator yields next.
        self._permits: list[None] = []
        #: Whether the generator has given way to the loop since there were permits.
        self._turn_is_over = True
        self._flush_is_due = False
        #: What holds values in place of `Stream.hold`, compiled.
        self._holder: Any = None
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

    def resume(self) -> None:
        """There is credit."""
        if self._change is not None or self._pending:
            self._worker.loop.call_soon_threadsafe(self._resume)

    def cancel(self) -> None:
        """The stream is cancelled."""
        self._permits.clear()
        self._worker.loop.call_soon_threadsafe(self._cancel_task)

    def end_run(self) -> None:
        """What is held fills a frame."""
        self._permits.clear()

    # On the loop.

    def start(self) -> None:
        """Makes the task."""
        variables, self._variables = self._variables or context_of(self.stream), None
        create_task = self._worker.loop.create_task
        self._task = variables.run(create_task, self.stream, self.run(), self._ended)

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
        current.set(self.stream)
        error: BaseException | None = None
        iterator: Any = None
        source, self._source = self._source, None
        self._has_begun = True
        try:
            if self.stream.is_cancelled:
                if isinstance(source, CoroutineType):
                    source.close()
                raise Cancelled
            while is_awaitable(source):
                source = await source
            if not hasattr(type(source), "__aiter__"):
                return lambda: self._iterate_on_thread(self.stream, source)
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
        if self.stream.is_cancelled:
            error = Cancelled()
        reason = None if error is None else self.stream.reason(error)
        return lambda: self.stream.finish(reason)

    def _ended(self, then: Callable[[], None] | None, error: BaseException | None) -> None:
        if then is not None:
            then()
        else:
            self.stream.finish(self.stream.reason(error or Cancelled()))

    async def _iterate(self, iterator: AsyncIterator[Any]) -> None:
        stream = self.stream
        self._holder = stream.prepare_to_hold()
        region = self._worker.loop.region
        assert region is not None
        hold = self._holder or stream.hold
        values = iterator if type(iterator) is AsyncGeneratorType else _Rest(iterator)
        pending, fixed = self._pending, stream.fixed_types
        append = pending.append
        while True:
            if self._failure is not None:
                raise self._failure
            if stream.is_cancelled:
                # It took no notice, or does not know of it yet.
                self._cancel_observed = True
                raise Cancelled
            if not self._turn_is_over or not self._give_permits():
                self._flush()
                if stream.left == 0:
                    return
                if pending or stream.available() <= 0:
                    await self._wait_for_window()
                self._fit_run()
                if self._batch_size > FIRST_RUN:
                    # One that never awaits anything lets the others have a turn.
                    region.shielded(self._reader.run_ended)
                    await asyncio.sleep(0)
                self._turn_is_over = True
                continue
            # An iterator over a list compares its place with the list's length each time.
            for _ in self._permits:
                # One value: in bytecode of its own, which is faster than to call `__anext__`.
                async for value in values:
                    append(value if type(value) in fixed else hold(value))
                    break
                else:
                    return

    def _give_permits(self) -> bool:
        """Lets values be appended, if any may be; they leave at the end of the turn."""
        stream, pending = self.stream, self._pending
        count = min(stream.available(), self._batch_size) - len(pending)
        if count <= 0:
            return False
        held = sum([len(value[0]) for value in pending if type(value) is list])
        if pending and held > stream.run_bytes:
            return False
        self._turn_is_over = False
        stream.held_bytes = held
        self._permits[:] = [None] * count
        if self._holder is not None:
            self._holder.begin(self._permits, stream.run_bytes - held)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._worker.loop.call_at_end_of_turn(self._end_turn)
        # Whoever cancels sets this before it takes the permits away.
        if stream.is_cancelled:
            self._permits.clear()
        return True

    def _fit_run(self) -> None:
        """The next run is longer, where what it holds is small."""
        if self._frame_bytes * RUN_GROWTH <= self.stream.run_bytes:
            self._batch_size = min(self._batch_size * RUN_GROWTH, self.stream.longest_run)
        elif self._frame_bytes * 2 > self.stream.run_bytes:
            self._batch_size = max(1, self._batch_size // 2)

    async def _drain(self) -> None:
        """What was yielded before the end leaves before it, when the window allows."""
        self._flush()
        while self._pending:
            await self._wait_for_window()

    def _end_turn(self) -> None:
        self._flush_is_due = False
        self._turn_is_over = True
        self._permits.clear()
        if self._pending:
            self._flush_when_idle()

    def _flush_when_idle(self) -> None:
        if self.stream.is_ended:
            return
        try:
            self._worker.loop.run_user_code(self.stream, self._flush)
        except BaseException as failure:
            self._failure = failure
            self._cancel_task()

    def _flush(self) -> None:
        """Sends what fits; what does not stays pending until there is credit."""
        pending = self._pending
        region = self._worker.loop.region
        assert region is not None
        while pending:
            buffers, size, count, error = self.stream.frame(pending)
            if count:
                if self.stream.is_cancelled:
                    pending.clear()
                    return
                if not region.shielded(self._put, buffers, size, count):
                    return
            if error is not None:
                pending.clear()
                raise error

    def _put(self, buffers: list[Any], size: int, count: int) -> bool:
        if not self.stream.fits(size):
            return False
        del self._pending[:count]
        self.stream.sent(count, size)
        self.stream.held_bytes = 0
        if self._worker.loop.is_ending_turn:
            # Written together with what the others have to send.
            self._worker.put_later(buffers, size)
        else:
            self._worker.put(buffers, size, False)
        self._frame_bytes = size
        return True

    async def _wait_for_window(self) -> None:
        while self._pending or self.stream.available() <= 0:
            self._change = asyncio.get_running_loop().create_future()
            self._flush()
            # Credit that came before the future was there woke nobody: checked again.
            if self.stream.left == 0 or (not self._pending and self.stream.available() > 0):
                break
            await self._change
        self._change = None
