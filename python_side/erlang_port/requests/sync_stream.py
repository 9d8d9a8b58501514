"""A stream of a sync iterator: one thread from its first value to its last.

A generator that yields slowly has every value sent by itself, before it is resumed. One
that yields fast has its values sent in runs: values that cannot change are collected in C,
any other is encoded at its `yield`; a run is sent when it is full, or by the
ticker when the generator pauses. So what is held back is never older than about two
ticks, and a switch interval (sys.getswitchinterval) more where the generator computes
without yielding: the ticker needs the interpreter lock. Only C code that keeps the lock
can hold a value back for longer, and only one that was yielded within a tick of
another.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextvars import Context
from itertools import chain, groupby
from operator import itemgetter
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from erlang_port.current import context_of
from erlang_port.errors import Cancelled
from erlang_port.etf.erlpack_input import kinds_of
from erlang_port.requests.stream import Stream
from erlang_port.wire import frames

if TYPE_CHECKING:
    from erlang_port.runtime.interrupt import InterruptibleRegion
    from erlang_port.worker import Worker

T = TypeVar("T")

#: Values that come faster than this, one after another, are sent in runs, in seconds. A
#: larger number makes slow generators wait for the ticker; a smaller one sends frames of
#: one value where a few could share one. Sending one costs about 10 us.
FAST_SECONDS = 0.0002

#: So many fast values make a generator a fast one. More cost frames at the start of
#: every burst, fewer make runs of what is no burst.
FAST_VALUES = 3

#: A stream that reads for itself looks for mail after so many runs. More let a call wait
#: for longer, about 30 us for each run; fewer cost a system call, about 1 us, for each.
RUNS_PER_LOOK = 4

#: How long such a stream waits for credit before it lets others read, in seconds. A
#: larger number saves hand-overs where the owner is slow; a smaller one lets calls go
#: straight to a thread that has nothing else to do.
PATIENCE_SECONDS = 0.002

#: Returns its second argument, at the price of a call from C to C.
_second: Callable[[None, Any], Any] = {}.get  # type: ignore[assignment]

#: The first run of a fast generator; each full one doubles the next.
FIRST_RUN = 8


class SyncStream(Stream):
    """Iterates on the thread that calls `run`."""

    iterator: Iterator[Any] | None = None
    #: That of its code, on whatever thread, from the first call of it until it has ended.
    context: Context | None = None
    #: Whether it is one of those that `max_threads` bounds.
    has_slot = False
    #: The length of the next run; 1 for a generator that is not known to be fast.
    _batch_size = 1
    #: How many runs there were: tells the ticker one from the next.
    _batch_number = 0
    _last_ticked_batch = -1
    _waiting = False
    #: True while a flush is pending: the values did not fit the window. The ticker skips this
    #: stream meanwhile.
    _flush_pending = False
    #: `hold`, compiled, where there is an accelerator.
    _holder: Any = None
    #: Whether the last run held values of one fixed type only.
    _is_uniform = True
    #: The encoded size of the last frame.
    _frame_bytes = 0
    #: Why a value that was held could not be sent, where the ticker found it.
    _failure: BaseException | None = None

    def __init__(
        self, program: Worker, address: bytes, options: frames.StreamOptions, flags: int
    ) -> None:
        super().__init__(program, address, options, flags)
        self._pending: deque[Any] = deque()
        #: One for each value of the run; gone when it is to end with the next one.
        self._permits: list[None] = []
        self._wake = threading.Lock()
        self._wake.acquire()

    # From other threads.

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        self.window.credit(taken, taken_bytes, demand)
        self._flush_pending = False
        self._resume()

    def cancel(self) -> None:
        self.is_cancelled = True
        self._end_run()
        self._resume()

    def _end_run(self) -> None:
        """Lets the runner look at its state when the generator yields next."""
        self._permits.clear()

    def _resume(self) -> None:
        # Without the lock, which may be held for as long as a value takes to be encoded:
        # the thread that reads must not wait for that. Two that come at once wake twice.
        if self._waiting:
            self._waiting = False
            with contextlib.suppress(RuntimeError):
                self._wake.release()

    def tick(self) -> None:
        """Sends what the generator has yielded, if it has not ended its run since the last tick."""
        if self._batch_number != self._last_ticked_batch:
            self._last_ticked_batch = self._batch_number
            return
        # The generator computes or waits: what has come for others must not wait for it.
        self._end_run()
        self.program.receiver.release(self)
        pending = self._pending
        if not pending or self._flush_pending:
            return
        if self.lock.acquire(blocking=False):
            self._send_pending()

    def _send_pending(self) -> None:
        """Sends what the generator has yielded before it paused; releases the lock."""
        pending = self._pending
        try:
            values = [pending.popleft() for _ in range(len(pending))]
            # What does not fit goes back before what was yielded meanwhile.
            rest = self._send(values, False)
            pending.extendleft(reversed(rest))
            self._flush_pending = bool(rest)
        except BaseException as error:
            self._failure = error
        finally:
            self.lock.release()

    # On the stream's own thread.

    def run_user_code(self, function: Callable[[], T]) -> T | None:
        """What the function returns; when it fails, the stream ends, and None."""
        if self.context is None:
            self.context = context_of(self)
        return self.context.run(self._run_user_code, function)

    def _run_user_code(self, function: Callable[[], T]) -> T | None:
        def attempt() -> tuple[T | None, bytes | None]:
            try:
                return function(), None
            except BaseException as error:
                return None, self.reason(error)

        region = self.program.region()
        try:
            value, reason = region.run(self, attempt)
        except BaseException as late:
            value, reason = None, self.program.reason(late, False)
        region.request = None
        if reason is not None:
            self.finish(reason)
        return value

    def run(self) -> None:
        """From the first value to the terminal event."""
        # Not kept by what it keeps itself.
        context, self.context = self.context or context_of(self), None
        context.run(self._run)

    def _run(self) -> None:
        region = self.program.region()
        region.request = self
        error: BaseException | None = None
        try:
            assert self.iterator is not None
            self._iterate(self.iterator, region)
        except BaseException as raised:
            region.reacquire()
            error = raised
        self.program.ticker.discard(self)
        self.program.receiver.release(self)
        try:
            reason = region.run(self, self._close, error)
        except BaseException as late:
            reason = self.program.reason(late, False)
        region.request = None
        self.finish(reason)

    def _iterate(self, iterator: Iterator[Any], region: InterruptibleRegion) -> None:
        streak, last = 0, time.monotonic()
        self._prepare_to_hold()
        if self._format is None:
            self._holder = self.program.encoder().holder()
        hold = self._holder or self.hold
        enter = region.enter
        while True:
            room = self.available()
            if room <= 0 or self.is_cancelled:
                room = self._wait_for_room()
                if room == 0:
                    return  # As many as were to be taken.
            if self._batch_size > 1 and room > 1:
                if not self._collect(iterator, min(room, self._batch_size), region):
                    return
                streak, last = FAST_VALUES, time.monotonic()
                continue
            self.program.receiver.release(self)
            try:
                try:
                    enter()
                    value = hold(next(iterator))
                finally:
                    region.leave()
                    if region.is_set:
                        region.clear_pending()
            except StopIteration:
                return
            with self.lock:
                self._send([value], True)
            del value
            now = time.monotonic()
            is_fast = now - last < FAST_SECONDS and self._frame_bytes * FIRST_RUN <= self.run_bytes
            streak = streak + 1 if is_fast else 0
            last = now
            if streak >= FAST_VALUES and self.longest_run > 1:
                self._batch_size = min(FIRST_RUN, self.longest_run)

    def _collect(self, iterator: Iterator[Any], length: int, region: InterruptibleRegion) -> bool:
        """One run; false when the iterator is exhausted."""
        before = self.window.sent
        self._batch_number += 1
        permits = self._permits = [None] * length
        # Whoever cancels sets this before it takes the permits.
        if self.is_cancelled:
            permits.clear()
        self._flush_pending = False
        self.program.ticker.add(self)
        self.held_bytes = 0
        if self._holder is not None:
            self._holder.begin(permits, self.run_bytes)
        # The loop runs in C. `map` takes one permit before each value, so clearing the list
        # of permits, here or from another thread, ends the loop at the next value.
        values_in_turn: Iterator[Any] = map(_second, permits, iterator)
        try:
            try:
                region.enter()
                self._hold_all(values_in_turn)
            finally:
                region.leave()
                if region.is_set:
                    region.clear_pending()
        finally:
            region.reacquire()
            # Values before an exception are the owner's.
            with self.lock:
                # Nobody appends now, so the whole may be copied at once.
                values = list(self._pending)
                self._pending.clear()
                held = len(values)
                # What was yielded after a value that cannot be sent is not sent.
                if self._failure is None:
                    self._send(values, True)
        if self.is_cancelled:
            raise Cancelled
        if self._failure is not None:
            raise self._failure
        if not self._is_uniform and values:
            kinds = kinds_of(values)
            self._is_uniform = len(kinds) == 1 and kinds <= self.fixed_types
        pulled = self.window.sent - before
        if not permits:
            # The ticker was faster: a run should fill in less than a tick.
            self._batch_size = 1 if pulled < FIRST_RUN else pulled // 2
            self.program.ticker.discard(self)
            self.program.receiver.release(self)
            return True
        if pulled < length:
            return False
        if self._frame_bytes * 2 > self.run_bytes:
            # Large values go by themselves: a longer run would hold more of them here.
            self._batch_size = max(1, self._batch_size // 2)
        elif held == length:
            self._batch_size = min(self._batch_size * 2, self.longest_run)
        self._look_at_mail()
        return True

    def _hold_all(self, values: Iterator[Any]) -> None:
        """Appends values to those that are pending; not one of them can change any more.

        As long as they are of one fixed type that is done in C. `groupby` keeps the value that
        ends its first group, and the generator is not resumed before that one is held, too.
        """
        pending = self._pending
        hold = self._holder or self.hold
        if not self._is_uniform:
            pending.extend(map(hold, values))
            return
        # `chain` asks an iterator no more once it has ended, unlike `map` and `groupby`.
        groups = groupby(chain(values), type)
        first = next(groups, None)
        if first is None:
            return
        kind, group = first
        if kind in self.fixed_types:
            pending.extend(group)
            second = next(groups, None)
            if second is None:
                return
            group = second[1]
        self._is_uniform = False
        others = chain.from_iterable(map(itemgetter(1), groups))
        pending.extend(map(hold, chain(group, others)))

    def _look_at_mail(self) -> None:
        """A stream at full speed reads for itself, when its window or some runs are used up."""
        reader = self.program.receiver
        if reader.lessee is not self:
            reader.take(self)
        elif self._batch_number % RUNS_PER_LOOK == 0 or self.available() < self._batch_size:
            reader.read_here(0)

    def _send(self, values: list[Any], wait: bool) -> list[Any]:
        """Sends held values in as many frames as it takes; the lock is held.

        Returns what did not fit where it may not wait.
        """
        while values:
            buffers, size, count, error = self.frame(values)
            if count:
                while not self.fits(size) and not self.is_cancelled:
                    if not wait:
                        return values
                    self._wait_locked(size)
                if self.is_cancelled:
                    return []
                self.sent(count, size)
                self.program.put(buffers, size, wait)
                self._frame_bytes = size
                values = values[count:] if count < len(values) else []
            if error is not None:
                raise error
        return values

    def _wait_for_room(self) -> int:
        while True:
            if self.is_cancelled:
                raise Cancelled
            room = self.available()
            if room > 0 or self.left == 0:
                return room
            self.program.ticker.discard(self)
            with self.lock:
                self._wait_locked(None)

    def _wait_locked(self, size: int | None) -> None:
        """Waits for room for a value, or for a frame of so many bytes; may return early."""
        self._waiting = True
        self.lock.release()
        reader = self.program.receiver
        try:
            # Looked at again: what came before this waited woke nobody.
            has_room = self.available() > 0 if size is None else self.window.fits(size)
            if has_room or self.is_cancelled:
                return
            while reader.lessee is self:
                if not reader.read_here(PATIENCE_SECONDS):
                    reader.release(self)
                elif self._wake.acquire(blocking=False):
                    return
            self._wake.acquire()
        finally:
            self._waiting = False
            self.lock.acquire()

    def _close(self, error: BaseException | None) -> bytes | None:
        """Runs the generator's `finally` blocks, on its own thread; the reason of the end."""
        iterator, self.iterator = self.iterator, None
        if type(iterator) is GeneratorType or isinstance(iterator, Generator):
            try:
                iterator.close()
            except BaseException as raised:
                error = error or raised
        if self.is_cancelled:
            error = error or Cancelled()
        return None if error is None else self.reason(error)
