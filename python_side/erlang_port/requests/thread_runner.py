"""Runs a sync iterator: one thread from its first value to its last.

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

import time
from collections.abc import Callable, Generator, Iterator
from contextvars import Context
from threading import Lock
from types import GeneratorType

from erlang_port.batching import FAST_ITEMS, FAST_SECONDS, RUN_GROWTH, RUNS_PER_READ
from erlang_port.current import context_of
from erlang_port.errors import Cancelled
from erlang_port.hints import Any, TypeVar
from erlang_port.requests.batch_collector import BatchCollector
from erlang_port.requests.stream import Stream
from erlang_port.runtime.interrupt import InterruptibleRegion

T = TypeVar("T")

#: How long such a stream waits for credit before it lets others read, in seconds. A
#: larger number saves hand-overs where the owner is slow; a smaller one lets calls go
#: straight to a thread that has nothing else to do.
PATIENCE_SECONDS = 0.002

#: The first run of a fast generator.
FIRST_RUN = 8


class ThreadRunner:
    """Iterates on the thread that calls `run`."""

    def __init__(self, stream: Stream, variables: Context | None = None) -> None:
        self.stream = stream
        self.iterator: Iterator[Any] | None = None
        #: The context variables of its code, on whatever thread, until it has ended.
        self.variables = variables
        self._worker = stream.context
        #: None until it has been fast: most streams are short.
        self._collector: BatchCollector | None = None
        #: The length of the next run; 1 for a generator that is not known to be fast.
        self._batch_size = 1
        self._last_ticked_batch = -1
        #: True while a flush is pending: the values did not fit the window. The ticker skips
        #: this stream meanwhile.
        self._flush_pending = False
        #: The encoded size of the last frame.
        self._frame_bytes = 0
        #: Why a value that was held could not be sent, where the ticker found it.
        self._failure: BaseException | None = None
        self._waiting = False
        self._wake = Lock()
        self._wake.acquire()

    # From other threads.

    def cancel(self) -> None:
        """The stream is cancelled."""
        self.end_run()
        self.resume()

    def end_run(self) -> None:
        """Lets the runner check its flags when the generator yields next."""
        if self._collector is not None:
            self._collector.end()

    def resume(self) -> None:
        """There is credit, or the stream is cancelled."""
        # Without the lock, which may be held for as long as a value takes to be encoded:
        # the thread that reads must not wait for that. Two that come at once wake twice.
        self._flush_pending = False
        if self._waiting:
            self._waiting = False
            try:
                self._wake.release()
            except RuntimeError:
                pass

    def tick(self) -> None:
        """Sends what the generator has yielded, if it has not ended its run since the last tick."""
        collector = self._collector
        if collector is None:
            return
        if collector.number != self._last_ticked_batch:
            self._last_ticked_batch = collector.number
            return
        # The generator computes or waits: what has come for others must not wait for it.
        self.end_run()
        self._worker.receiver.release(self.stream)
        if not collector.pending or self._flush_pending:
            return
        if self.stream.lock.acquire(blocking=False):
            self._send_pending(collector)

    def _send_pending(self, collector: BatchCollector) -> None:
        """Sends what the generator has yielded before it paused; releases the lock."""
        try:
            # Before the window is checked: credit that comes in between takes it back.
            self._flush_pending = True
            rest = self._send(collector.take_while_collecting(), False)
            collector.put_back(rest)
            if not rest:
                self._flush_pending = False
        except BaseException as error:
            self._failure = error
        finally:
            self.stream.lock.release()

    # On the stream's own thread.

    def run_user_code(self, function: Callable[[], T]) -> T | None:
        """What the function returns; when it fails, the stream ends, and None."""
        if self.variables is None:
            self.variables = context_of(self.stream)
        return self.variables.run(self._run_user_code, function)

    def _run_user_code(self, function: Callable[[], T]) -> T | None:
        stream = self.stream

        def attempt() -> tuple[T | None, bytes | None]:
            try:
                return function(), None
            except BaseException as error:
                return None, stream.reason(error)

        region = self._worker.region()
        try:
            value, reason = region.run(stream, attempt)
        except BaseException as late:
            value, reason = None, self._worker.reason(late, False)
        region.request = None
        if reason is not None:
            stream.finish(reason)
        return value

    def run(self) -> None:
        """From the first value to the terminal event."""
        # Not kept by what it keeps itself.
        variables, self.variables = self.variables or context_of(self.stream), None
        variables.run(self._run)

    def _run(self) -> None:
        stream, region = self.stream, self._worker.region()
        region.request = stream
        error: BaseException | None = None
        try:
            assert self.iterator is not None
            self._iterate(self.iterator, region)
        except BaseException as raised:
            region.reacquire()
            error = raised
        self._worker.ticker.discard(self)
        self._worker.receiver.release(stream)
        reason = None
        if error is not None or stream.is_cancelled or not _is_exhausted(self.iterator):
            try:
                reason = region.run(stream, self._close, error)
            except BaseException as late:
                reason = self._worker.reason(late, False)
        region.request = None
        stream.finish(reason)

    def _iterate(self, iterator: Iterator[Any], region: InterruptibleRegion) -> None:
        stream = self.stream
        streak, last = 0, time.monotonic()
        holder = stream.prepare_to_hold()
        hold = holder or stream.hold
        enter, receiver = region.enter, self._worker.receiver
        while True:
            available = stream.available()
            if available <= 0 or stream.is_cancelled:
                available = self._wait_for_window()
                if available == 0:
                    return  # As many as were to be taken.
            if self._batch_size > 1 and available > 1:
                if self._collector is None:
                    self._collector = BatchCollector(stream.fixed_types, stream.hold, holder)
                length = min(available, self._batch_size)
                if not self._collect(self._collector, iterator, length, region):
                    return
                streak, last = FAST_ITEMS, time.monotonic()
                continue
            if receiver.lessee is stream:
                receiver.release(stream)
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
            with stream.lock:
                self._send([value], True)
            del value
            now = time.monotonic()
            is_fast = (
                now - last < FAST_SECONDS and self._frame_bytes * FIRST_RUN <= stream.run_bytes
            )
            streak = streak + 1 if is_fast else 0
            last = now
            if streak >= FAST_ITEMS and stream.longest_run > 1:
                self._batch_size = min(FIRST_RUN, stream.longest_run)

    def _collect(
        self,
        collector: BatchCollector,
        iterator: Iterator[Any],
        length: int,
        region: InterruptibleRegion,
    ) -> bool:
        """One run; false when the iterator is exhausted."""
        stream = self.stream
        before = stream.window.sent
        collector.begin(length, stream.run_bytes)
        # Whoever cancels sets this before it ends the run.
        if stream.is_cancelled:
            collector.end()
        self._flush_pending = False
        self._worker.ticker.add(self)
        stream.held_bytes = 0
        try:
            try:
                region.enter()
                collector.collect(iterator)
            finally:
                region.leave()
                if region.is_set:
                    region.clear_pending()
        finally:
            region.reacquire()
            # Values before an exception are the owner's.
            with stream.lock:
                values = collector.take()
                held = len(values)
                # What was yielded after a value that cannot be sent is not sent.
                if self._failure is None:
                    self._send(values, True, collector.kinds)
        if stream.is_cancelled:
            raise Cancelled
        if self._failure is not None:
            raise self._failure
        pulled = stream.window.sent - before
        if collector.was_ended():
            # The ticker was faster: a run should fill in less than a tick.
            self._batch_size = 1 if pulled < FIRST_RUN else pulled // 2
            self._worker.ticker.discard(self)
            self._worker.receiver.release(stream)
            return True
        if pulled < length:
            return False
        if self._frame_bytes * 2 > stream.run_bytes:
            # Large values go by themselves: a longer run would hold more of them here.
            self._batch_size = max(1, self._batch_size // 2)
        elif held == length and self._frame_bytes * RUN_GROWTH <= stream.run_bytes:
            self._batch_size = min(self._batch_size * RUN_GROWTH, stream.longest_run)
        self._read_frames(collector.number)
        return True

    def _read_frames(self, number: int) -> None:
        """A stream at full speed reads for itself, when its window or some runs are used up."""
        receiver = self._worker.receiver
        if receiver.lessee is not self.stream:
            receiver.lease(self.stream)
        elif number % RUNS_PER_READ == 0 or self.stream.available() < self._batch_size:
            receiver.read_here(0)

    def _send(self, values: list[Any], wait: bool, kinds: set[type] | None = None) -> list[Any]:
        """Sends held values in as many frames as it takes; the lock is held.

        Returns what did not fit where it may not wait.
        """
        while values:
            buffers, size, count, error = self.stream.frame(values, kinds)
            if count:
                while not self.stream.fits(size) and not self.stream.is_cancelled:
                    if not wait:
                        return values
                    self._wait_locked(size)
                if self.stream.is_cancelled:
                    return []
                self.stream.sent(count, size)
                self._worker.put(buffers, size, wait)
                self._frame_bytes = size
                values = values[count:] if count < len(values) else []
            if error is not None:
                raise error
        return values

    def _wait_for_window(self) -> int:
        while True:
            if self.stream.is_cancelled:
                raise Cancelled
            available = self.stream.available()
            if available > 0 or self.stream.left == 0:
                return available
            self._worker.ticker.discard(self)
            with self.stream.lock:
                self._wait_locked(None)

    def _wait_locked(self, size: int | None) -> None:
        """Waits until a value, or a frame of `size` bytes, may be sent; may return early."""
        self._waiting = True
        self.stream.lock.release()
        receiver = self._worker.receiver
        try:
            # Checked again: what came before this waited woke nobody.
            may_send = (
                self.stream.available() > 0 if size is None else self.stream.window.fits(size)
            )
            if may_send or self.stream.is_cancelled:
                return
            while receiver.lessee is self.stream:
                if not receiver.read_here(PATIENCE_SECONDS):
                    receiver.release(self.stream)
                elif self._wake.acquire(blocking=False):
                    return
            self._wake.acquire()
        finally:
            self._waiting = False
            self.stream.lock.acquire()

    def _close(self, error: BaseException | None) -> bytes | None:
        """Runs the generator's `finally` blocks, on its own thread; the reason of the end."""
        iterator, self.iterator = self.iterator, None
        if type(iterator) is GeneratorType or isinstance(iterator, Generator):
            try:
                iterator.close()
            except BaseException as raised:
                error = error or raised
        if self.stream.is_cancelled:
            error = error or Cancelled()
        return None if error is None else self.stream.reason(error)


def _is_exhausted(iterator: Any) -> bool:
    """Whether nothing is left to be closed: a generator has come to its end."""
    return type(iterator) is GeneratorType and iterator.gi_frame is None
