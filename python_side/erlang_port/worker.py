"""The worker, and the drawing of what passes through it.

::

    node  -> | port | -> frame_reader -> Worker.dispatch -> threads -> generator or function
                                        |                |
                                        |                +-> loop -> async generator
                                        +-> credit, cancel
    node  <- | port | <- frame_writer <- stream or call <- its values

- ThreadPool (threads.py): all alike. One of those that are idle reads what arrives and
  does it; a sync stream keeps its thread until it ends.
- The loop (loop.py): one thread for everything async.
- The ticker (ticker.py): one thread that sends what a fast generator has yielded when
  it pauses, and keeps the deadlines of interrupts.
- The main thread: runs the code of `py:exec`, one after another, and signal handlers; and
  every call and sync stream of a worker with the option `thread => main`.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import faulthandler
import itertools
import logging
import math
import os
import platform
import queue
import signal
import sys
import threading
import time
import types
import weakref
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from inspect import isawaitable
from types import GeneratorType
from typing import Any

from erlang_port import reasons
from erlang_port.current import context_of, current, share_context
from erlang_port.errors import Cancelled, NotAllowed
from erlang_port.etf import decoder
from erlang_port.etf.encoder import Encoder, ways
from erlang_port.etf.terms import Atom
from erlang_port.leaving import exit_after, watch_node
from erlang_port.node.client import NodeClient
from erlang_port.requests.async_stream import AsyncStream
from erlang_port.requests.call import Call, Exec
from erlang_port.requests.source import compile_source
from erlang_port.requests.stream import ERROR, Stream
from erlang_port.requests.sync_stream import SyncStream
from erlang_port.requests.targets import Targets
from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.interrupt import InterruptibleRegion, Outcome
from erlang_port.runtime.memory_limit import MemoryLimit
from erlang_port.runtime.thread_pool import ThreadPool, Work
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire import frames
from erlang_port.wire.frame_reader import FrameReader, OversizedFrame
from erlang_port.wire.frame_writer import FrameWriter
from erlang_port.wire.poller import make_poller
from erlang_port.wire.receiver import Receiver

Request = Call | SyncStream | AsyncStream

#: What a worker may take to leave when its node is gone, in seconds. After an orderly stop it
#: is the pool's `stop_timeout`, and the node kills what is left.
LEAVE_SECONDS = 0.6

#: How soon code is looked at again that was where it must not be broken off, in seconds. A
#: larger number lets it run on for longer, a smaller one costs the ticker more.
RETRY_SECONDS = 0.02
LONGEST_RETRY_SECONDS = 0.5

#: How long requests may take to end by themselves before they are interrupted then, in
#: seconds. A larger number lets slow generators close, a smaller one leaves sooner.
END_SECONDS = 0.2

#: What is left for the interpreter's own end, as a part of the time.
_LAST_PART = 0.25

_ENDED_BY_SIGNAL = b"h\x02w\x0bworker_exith\x02w\x06signala\x0f"

#: The reason where there is no memory to say more.
_NO_MEMORY = b"h\x02m\0\0\0\x0bMemoryErrorm\0\0\0\0"


class Worker:
    """One worker: the requests that are under way, by address, and what they share."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self.frame_reader = FrameReader(read_fd)
        self.poller = make_poller(read_fd)
        self.frame_writer = FrameWriter(write_fd, self.request_stop)
        self.loop = EventLoop(self.region, self.abort)
        self.ticker = Ticker(self.abort)
        self.targets = Targets()
        self.node = NodeClient(self)
        self.receiver = Receiver(self.frame_reader, self.poller, self.dispatch, self.request_stop)
        self.threads: ThreadPool = ThreadPool(self.poller, self.receiver.read, 0, self.abort)
        self.requests: dict[bytes, Request] = {}
        self._none = "none"
        self._local = threading.local()
        #: Of every thread that ran user code and has not ended.
        self._regions: weakref.WeakSet[InterruptibleRegion] = weakref.WeakSet()
        #: Guards the counts of sync streams.
        self._lock = threading.Lock()
        self._interrupt_after: float | None = None
        self._interrupt_grace = math.inf
        #: Sync streams that have a thread, at most so many, and those that wait for one.
        self._max_threads = 0
        self._running = 0
        #: In the order in which they came, which is not that in which they were opened.
        self._waiting: deque[SyncStream] = deque()
        self._orders = itertools.count()
        #: What is to run on the main thread, in the order of arrival; and of those requests
        #: the ones that wait, each with its work. Whoever takes one out of there runs it.
        self._main: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._waiting_main: dict[Request, Work] = {}
        #: Whether calls and sync streams run there, too.
        self._uses_main = False
        self._main_module = types.ModuleType("__main__")
        self._pid = os.getpid()
        self._stop_seconds: float | None = None
        self._ends_children = False
        #: In a forked child: what ends it.
        self._end_child: Callable[[], None] | None = None
        self._stops_in_order = False
        self._is_stopping = False
        #: What requests that are cancelled are told, where it is not that.
        self._cancelled_reason = b"w\x09cancelled"
        self._handlers: dict[int, Callable[[bytes, bytes, int], Work | None]] = {
            frames.STREAM: self._on_stream,
            frames.CALL: self._on_call,
            frames.EXEC: self._on_exec,
            frames.CANCEL: self._on_cancel,
            frames.CREDIT: self._on_credit,
            frames.PING: self._on_ping,
            frames.STATS: self._on_stats,
            frames.LEVEL: self._on_level,
            frames.CALLBACK_RESULT: self._on_callback_result,
            frames.ACK: self._on_ack,
            frames.STOP: self._on_stop,
        }

    # The life of the program; on the main thread.

    def run(self) -> None:
        """From the settings to the end of the input."""
        pending = self._first_frames()
        settings = decoder.decode(pending[0], 2)
        self._configure(settings)
        watch_node(self._read_fd, settings)
        self.loop.start()
        self.ticker.start()
        limit = settings["memory_limit"]
        memory = MemoryLimit(limit) if isinstance(limit, int) else None
        most = 2 * self._max_threads
        self.threads = ThreadPool(self.poller, self.receiver.read, most, self.abort, memory)
        self.receiver.submit_to(self.threads.submit)
        for frame in pending[1:]:
            work = self.dispatch(frame)
            if work is not None:
                self.threads.submit(work)
        # Before any user code runs: it may call Erlang functions.
        self.threads.start()
        self.node.open(settings["level"])
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self._prepare(settings)
        self._send_ready()
        self._work()
        self._close()

    def _work(self) -> None:
        while True:
            try:
                request = self._main.get()
            except BaseException as error:
                # A signal: KeyboardInterrupt, or what a handler of the user's raised.
                _print_traceback(error)
                continue
            if request is None:
                return
            try:
                work = self._waiting_main.pop(request, None)
                if work is not None:
                    work()
                # Not kept until the next one comes.
                del request, work
            except BaseException as error:
                self.abort(error)
            self.region().reacquire()

    def _run_on_main(self, request: Request, work: Work) -> None:
        self._waiting_main[request] = work
        self._main.put(request)

    def _first_frames(self) -> list[bytes]:
        while True:
            self.poller.wait(3600)
            found = self.frame_reader.frames()
            if found:
                if found[0][0] != frames.SETTINGS:
                    raise frames.FrameError("the first frame does not hold the settings")
                return found

    def _configure(self, settings: dict[str, Any]) -> None:
        self._none = settings["none"]
        self._max_threads = settings["max_threads"]
        self._uses_main = settings["thread"] == "main"
        after = settings["interrupt_after"]
        self._interrupt_after = None if after == "infinity" else after / 1000
        grace = settings["interrupt_grace"]
        self._interrupt_grace = math.inf if grace == "infinity" else grace / 1000
        stop = settings["stop_timeout"]
        self._ends_children = settings["children"] == "kill"
        self._stop_seconds = None if stop == "infinity" else stop / 1000
        self.targets = Targets(settings["allow"])

    def _prepare(self, settings: dict[str, Any]) -> None:
        """Makes `__main__` and runs what the pool wants every worker to have run."""
        main = self._main_module
        main.__dict__["__builtins__"] = __builtins__
        main.__dict__["asyncio"] = asyncio
        sys.modules["__main__"] = main
        for item in settings["preload"]:
            if all(part.isidentifier() for part in item.split(".")):
                __import__(item)
            else:
                self._run(item, "preload")
        share_context()
        for code in settings["journal"]:
            try:
                context_of(None).run(self.execute, code)
            except BaseException as error:
                _print_traceback(error)

    def execute(self, code: str) -> None:
        """Runs code in `__main__`."""
        if not self.targets.allows_code():
            raise NotAllowed
        self._run(code, "exec")

    def _run(self, code: str, kind: str) -> None:
        exec(compile_source(code, kind, "exec"), self._main_module.__dict__)

    def _send_ready(self) -> None:
        info = {
            Atom("python"): platform.python_version(),
            Atom("executable"): sys.executable,
            Atom("writer"): Atom(ways()[0]),
            Atom("protocol"): 1,
            Atom("input"): self._read_fd,
            Atom("os_pid"): self._pid,
            Atom("crash"): _record_crashes(),
        }
        self._put(frames.READY, b"", [self.encoder().encode(info)])

    def _on_stop(self, _frame: bytes, _address: bytes, _offset: int) -> None:
        # The end of the input comes next.
        self._stops_in_order = True

    def _on_sigterm(self, _number: int, _frame: Any) -> None:
        if os.getpid() == self._pid:
            self._put(frames.LEAVING, b"", [])
            self._cancelled_reason = _ENDED_BY_SIGNAL
            self._stop(self._stop_seconds, True)

    def request_stop(self) -> None:
        """The input has ended: the node is gone, or wants no more."""
        self.node.disconnect()
        self._stop(self._stop_seconds if self._stops_in_order else LEAVE_SECONDS, False)

    def _stop(self, seconds: float | None, lets_calls_end: bool) -> None:
        """Ends what runs, on a thread of its own; the main thread then leaves.

        Nothing outlasts the time, whatever it does: the interpreter lock is not needed to end
        the process then.
        """
        if self._is_stopping:
            return
        self._is_stopping = True
        try:
            if seconds is not None:
                exit_after(seconds)
            work = lambda: self._end_requests(seconds, lets_calls_end)  # noqa: E731
            threading.Thread(target=work, name="erlang_port stop", daemon=True).start()
        except BaseException:
            os._exit(1)  # There is no memory for a thread.

    def abort(self, error: BaseException) -> None:
        """What must not happen has happened: the node is told why, and the process ends.

        Better than to go on with a thread less or a request that is never answered: the
        pool starts another worker.
        """
        try:
            _print_traceback(error)
            why = f"{type(error).__name__}: {reasons.message_of(error)}".encode()
            self.frame_writer.write_final(frames.header(frames.FAILED, b"", len(why)) + why, 0.2)
        finally:
            os._exit(1)

    def _close(self) -> None:
        self.loop.close(END_SECONDS)
        self.node.close()
        self.ticker.close()
        self.threads.close()

    def _end_requests(self, seconds: float | None, lets_calls_end: bool) -> None:
        end = math.inf if seconds is None else time.monotonic() + seconds * (1 - _LAST_PART)
        for request in list(self.requests.values()):
            if isinstance(request, Stream) or not lets_calls_end:
                self._cancel(request)
        if lets_calls_end and not self._all_end_by(end - END_SECONDS):
            for request in list(self.requests.values()):
                self._cancel(request)
        if not self._all_end_by(min(end, time.monotonic() + END_SECONDS)):
            self._interrupt_all_by(end)
        self._main.put(None)

    def _interrupt_all_by(self, end: float) -> None:
        raised: set[Request] = set()
        while self.requests and time.monotonic() < end:
            for request in list(self.requests.values()):
                if request not in raised and self.interrupt(request) is Outcome.RAISED:
                    raised.add(request)
            self._all_end_by(min(end, time.monotonic() + RETRY_SECONDS))

    def _all_end_by(self, end: float) -> bool:
        while self.requests and time.monotonic() < end:
            time.sleep(0.002)
        return not self.requests

    # Frames in; on whichever thread reads.

    def dispatch(self, frame: bytes) -> Work | None:
        """Does what a frame asks for, or returns it as work for a thread."""
        try:
            if frame.__class__ is OversizedFrame:
                raise MemoryError("no memory for a request of this size")
            offset = 2 + frame[1]
            return self._handlers[frame[0]](frame, bytes(frame[2:offset]), offset)
        except Exception as error:
            self._refuse(frame, error)
            return None

    def _refuse(self, frame: bytes, error: Exception) -> None:
        """Answers a request for which there is no memory; any other error is the end."""
        kind, offset = frame[0], 2 + frame[1]
        requests = frames.STREAM, frames.CALL, frames.EXEC
        if not isinstance(error, MemoryError) or kind not in requests:
            self.abort(error)
        address = bytes(frame[2:offset])
        self.requests.pop(address, None)
        reason = self.reason(error, False)
        if kind == frames.STREAM:
            prefix = frames.read_stream(frame, offset)[0].prefix
            self._put(frames.LAST, address, [prefix, ERROR, reason])
        else:
            self._put(frames.REPLY, address, [b"\x83", ERROR, reason])

    def _on_stream(self, frame: bytes, address: bytes, offset: int) -> Work | None:
        options, target = frames.read_stream(frame, offset)
        stream = SyncStream(self, address, options, frame[target + 1])
        stream.order = next(self._orders)
        self.requests[address] = stream
        return self._placed(
            stream, lambda: self._open(stream, options, frame, target), frame, target
        )

    def _on_call(self, frame: bytes, address: bytes, offset: int) -> Work | None:
        call = Call(self, address, frame, offset)
        self.requests[address] = call
        return self._placed(call, call.run, frame, offset)

    def _placed(self, request: Request, work: Work, frame: bytes, target: int) -> Work | None:
        """Leaves work to the main thread, if it is to run there; or returns it."""
        if self._uses_main and not self.targets.is_async(frame, target):
            self._run_on_main(request, work)
            return None
        return work

    def _on_exec(self, frame: bytes, address: bytes, offset: int) -> None:
        execution = Exec(self, address, frame, offset)
        self.requests[address] = execution
        self._run_on_main(execution, execution.run)

    def _on_cancel(self, _frame: bytes, address: bytes, _offset: int) -> None:
        request = self.requests.get(address)
        if request is None:
            return
        self._cancel(request)
        if self._interrupt_after is not None:
            self._interrupt_later(address, self._interrupt_after)

    def _cancel(self, request: Request) -> None:
        request.cancel()
        work = self._waiting_main.pop(request, None)
        if work is not None:
            # It runs no code of the user's any more, and need not wait to say so.
            self.threads.submit(work)
        if not isinstance(request, SyncStream):
            return
        with self._lock:
            if request not in self._waiting:
                return
            self._waiting.remove(request)
        # It has no place, and needs none to end.
        self.threads.submit(request.run)

    def _interrupt_later(self, address: bytes, seconds: float) -> None:
        """Breaks a cancelled request off after so many seconds, and until it has ended.

        What has been broken off, or was cancelled where it waited, has `interrupt_grace` for
        its clean-up before the next time.
        """
        last = time.monotonic()
        retry = RETRY_SECONDS

        def interrupt() -> None:
            nonlocal last, retry
            # By its address: a sync stream may have become an async one meanwhile.
            request = self.requests.get(address)
            if request is None:
                return
            outcome = self.interrupt(request)
            # The longer an import takes, the less it is slowed down by this.
            pause = retry
            retry = min(retry * 1.5, LONGEST_RETRY_SECONDS)
            if outcome is Outcome.RAISED:
                last = time.monotonic()
                retry = RETRY_SECONDS
                pause = self._interrupt_grace
            elif outcome is Outcome.ELSEWHERE:
                pause = max(seconds, RETRY_SECONDS)
                if time.monotonic() - last >= self._interrupt_grace:
                    # Code that took the first cancellation for something else gets another.
                    last = time.monotonic()
                    request.cancel()
            if pause < math.inf:
                self.ticker.call_later(pause, interrupt)

        self.ticker.call_later(seconds, interrupt)

    def _on_credit(self, frame: bytes, address: bytes, offset: int) -> None:
        request = self.requests.get(address)
        if request is not None:
            request.credit(*frames.read_credit(frame, offset))

    def _on_ping(self, _frame: bytes, address: bytes, _offset: int) -> None:
        requests = list(self.requests.values())
        streams = sum(isinstance(request, Stream) for request in requests)
        self._put(frames.PONG, address, [frames.pong(len(requests), streams)])

    def _on_stats(self, _frame: bytes, address: bytes, _offset: int) -> None:
        counters = {
            **self.threads.statistics(),
            **self.loop.statistics(),
            "requests": len(self.requests),
            "sync_streams": self._running,
            "waiting_streams": len(self._waiting),
            "waiting_main": len(self._waiting_main),
        }
        atoms = {Atom(name): count for name, count in counters.items()}
        self._put(frames.REPLY, address, [b"\x83h\x02w\x02ok", *self.encoder().parts(atoms)])

    def _on_callback_result(self, frame: bytes, address: bytes, offset: int) -> None:
        self.node.answer(frame, address, offset)

    def _on_ack(self, frame: bytes, address: bytes, offset: int) -> None:
        self.node.taken(frame, address, offset)

    def _on_level(self, frame: bytes, _address: bytes, offset: int) -> None:
        self.node.logs.set_level(frame[offset])

    # Streams: from a request to an iterator; on a thread.

    def _open(
        self, stream: SyncStream, options: frames.StreamOptions, frame: bytes, target: int
    ) -> None:
        def source() -> tuple[bool, Any]:
            if stream.is_cancelled:
                raise Cancelled
            function, args, kwargs = self.targets.bind(frame, target)
            value = function(*args, **kwargs)
            kind = type(value)
            if kind is GeneratorType:
                return False, value
            if hasattr(kind, "__aiter__") or isawaitable(value):
                return True, value
            return False, iter(value)

        found = stream.run_user_code(source)
        del source
        if found is None:
            return
        is_async, value = found
        if is_async:
            self._become_async(stream, options, value)
        else:
            stream.iterator = value
            self.iterate(stream)

    def _become_async(self, sync: SyncStream, options: frames.StreamOptions, value: Any) -> None:
        stream = AsyncStream(self, sync.address, options, 0)
        stream.inherit_from(sync)
        stream.context, sync.context = sync.context, None
        # No frame is dispatched meanwhile, so no cancel or credit goes to the wrong one.
        with self.receiver.lock:
            stream.is_cancelled = sync.is_cancelled
            self.requests[sync.address] = stream
        stream.source = value
        self.loop.call_soon_threadsafe(stream.start)

    def become_sync(self, stream: AsyncStream, value: Any) -> None:
        """A coroutine returned something that is iterated on a thread."""
        sync = SyncStream(self, stream.address, stream.options, 0)
        sync.inherit_from(stream)
        # The task's: this is the end of its last step.
        sync.context = copy_context()
        sync.context.run(current.set, sync)

        def source() -> Any:
            if sync.is_cancelled:
                raise Cancelled
            return iter(value)

        def iterate() -> None:
            with self.receiver.lock:
                sync.is_cancelled = stream.is_cancelled
                self.requests[stream.address] = sync
            sync.iterator = sync.run_user_code(source)
            if sync.iterator is not None:
                self.iterate(sync)

        if self._uses_main:
            self._run_on_main(stream, iterate)
        else:
            self.threads.submit(iterate)

    def iterate(self, stream: SyncStream) -> None:
        """Iterates here, unless too many do; then when one of them has ended."""
        if self._uses_main:
            self._running += 1
            stream.run()
            self._running -= 1
            return
        with self._lock:
            # One that is cancelled needs no place.
            has_slot = not stream.is_cancelled
            if has_slot and self._running >= self._max_threads:
                bisect.insort(self._waiting, stream, key=lambda waiting: waiting.order)
                return
            self._running += has_slot
        stream.has_slot = has_slot
        try:
            stream.run()
        finally:
            if has_slot:
                self._next_stream()

    def _next_stream(self) -> None:
        with self._lock:
            # There are more than the limit when one has had its place back.
            if not self._waiting or self._running > self._max_threads:
                self._running -= 1
                return
            stream = self._waiting.popleft()
        stream.has_slot = True

        def run() -> None:
            try:
                stream.run()
            finally:
                self._next_stream()

        self.threads.submit(run)

    def lend(self, request: Request) -> Callable[[], None]:
        """The calling thread waits for the node: others may have its place meanwhile.

        Otherwise calls that go to and fro between Python and Erlang would wait for a thread
        that waits for them. Returns what ends the wait.
        """
        if threading.current_thread() is threading.main_thread():
            return _nothing
        self.threads.begin_blocking()
        has_slot = isinstance(request, SyncStream) and request.has_slot
        if has_slot:
            self.receiver.release(request)
            self._next_stream()

        def release() -> None:
            self.threads.end_blocking()
            if has_slot:
                with self._lock:
                    self._running += 1

        return release

    # Frames out; from any thread.

    def encoder(self) -> Encoder:
        """The calling thread's encoder."""
        try:
            return self._local.encoder  # type: ignore[no-any-return]
        except AttributeError:
            encoder = self._local.encoder = Encoder(self._none)
            return encoder

    def region(self) -> InterruptibleRegion:
        """The calling thread's regions of user code."""
        try:
            return self._local.region  # type: ignore[no-any-return]
        except AttributeError:
            region = self._local.region = InterruptibleRegion()
            with self._lock:
                self._regions.add(region)
            return region

    def keep_thread(self) -> bool:
        """Keeps the calling thread for as long as the worker lasts; false if it cannot be kept.

        It has forked a process that is to end with the worker.
        """
        if not self._ends_children:
            return False
        return threading.current_thread() is threading.main_thread() or self.threads.keep()

    def end_where_user_code_ends(self, end: Callable[[], None]) -> None:
        """In a forked child: when the code that forked it comes back, `end` is called."""
        self.region().leave = self._end_child = end

    def interrupt(self, request: Request) -> Outcome:
        """Breaks off whatever code of this request runs, on any thread."""
        with self._lock:
            regions = tuple(self._regions)
        return max((region.interrupt(request) for region in regions), default=Outcome.ELSEWHERE)

    def put(self, buffers: list[Any], size: int, wait: bool) -> None:
        """Sends a frame whose header is its first buffer."""
        size += len(buffers[0])
        if wait:
            self.frame_writer.put_and_wait(buffers, size)
        else:
            self.frame_writer.put(buffers, size)

    def _put(self, kind: int, address: bytes, buffers: list[Any]) -> None:
        size = sum(map(len, buffers))
        header = frames.header(kind, address, size)
        self.frame_writer.put([header, *buffers], size + len(header))

    def ended(self, request: Call | Stream, kind: int, buffers: list[Any]) -> None:
        """Forgets a request and sends its last frame."""
        size = sum(map(len, buffers))
        header = frames.header(kind, request.address, size)
        if self.requests.get(request.address) is request:
            del self.requests[request.address]
        self.frame_writer.put([header, *buffers], size + len(header))

    def reason(self, error: BaseException, with_traceback: bool) -> bytes:
        """An exception as an encoded term."""
        if self._end_child is not None:
            self._end_child()  # While the error is being handled.
        if isinstance(error, NotAllowed):
            return b"w\x0bnot_allowed"
        if isinstance(error, Cancelled):
            return self._cancelled_reason
        if self.node.logs.level <= logging.DEBUG:
            self.node.logs.failed(error)
        try:
            return self.encoder().encode(reasons.reason(error, with_traceback))[1:]
        except MemoryError:
            return _NO_MEMORY


def _nothing() -> None:
    """The main thread has no place to lend."""


def _record_crashes() -> int:
    """Has faulthandler write where the node finds it after a crash; a descriptor, or -1."""
    try:
        fd = os.memfd_create("erlang_python_crash")
    except (AttributeError, OSError):
        return -1  # Not on Linux: it stays on standard error.
    faulthandler.enable(fd)
    return fd


def _print_traceback(error: BaseException) -> None:
    """Prints a traceback, if there is anywhere to print it."""
    # A full disk, a closed descriptor or no memory are no reason to fail.
    with contextlib.suppress(BaseException):
        sys.stderr.write(reasons.traceback_of(error))
        sys.stderr.flush()
