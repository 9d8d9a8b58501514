"""The worker, and the drawing of what passes through it.

::

    node  -> | port | -> frame_reader -> Worker.dispatch -> threads -> generator or function
                                        |                |
                                        |                +-> loop -> async generator
                                        +-> credit, cancel
    node  <- | port | <- frame_writer <- stream or call <- its values

- ThreadPool (thread_pool.py): all alike. One of those that are idle reads what arrives and
  does it; a sync stream keeps its thread until it ends.
- EventLoop (event_loop.py): one thread for everything async.
- Ticker (ticker.py): one thread that sends what a fast generator has yielded when
  it pauses, and keeps the deadlines of interrupts.
- MainThread (main_thread.py): runs the code of `py:exec`, one after another, and signal
  handlers; and every call and sync stream of a worker with the option `thread => main`.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from threading import get_ident

from erlang_port import current, reasons
from erlang_port.about import attach_trace, open_about
from erlang_port.context import WorkerContext
from erlang_port.etf import decoder, handles
from erlang_port.etf.encoder import ways
from erlang_port.etf.terms import Atom
from erlang_port.hints import Any
from erlang_port.leaving import exit_after, watch_node
from erlang_port.node.client import NodeClient
from erlang_port.requests.handles import Handles
from erlang_port.requests.main_module import MainModule
from erlang_port.requests.main_thread import MainThread
from erlang_port.requests.request_opener import RequestOpener
from erlang_port.requests.request_table import Handler, RequestTable
from erlang_port.requests.stacks import Stacks
from erlang_port.requests.stream import ERROR
from erlang_port.requests.stream_slots import StreamSlots
from erlang_port.requests.targets import Targets
from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.memory_limit import MemoryLimit
from erlang_port.runtime.pulse import Pulse, encode
from erlang_port.runtime.regions import Regions
from erlang_port.runtime.reload import Reload
from erlang_port.runtime.thread_pool import ThreadPool, Work
from erlang_port.runtime.threads import start_thread
from erlang_port.runtime.ticker import Ticker
from erlang_port.wire import frames
from erlang_port.wire.frame_reader import FrameReader, OversizedFrame
from erlang_port.wire.frame_writer import FrameWriter
from erlang_port.wire.poller import Poller
from erlang_port.wire.receiver import Receiver

#: What a worker may take to leave when its node is gone, in seconds. After an orderly stop it
#: is the pool's `stop_timeout`, and the node kills what is left.
LEAVE_SECONDS = 0.6

#: How long requests may take to end by themselves before they are interrupted then, in
#: seconds. A larger number lets slow generators close, a smaller one leaves sooner.
END_SECONDS = 0.2

#: What is left for the interpreter's own end, as a part of the time.
_LAST_PART = 0.25

_ENDED_BY_SIGNAL = b"h\x02w\x0bworker_exith\x02w\x06signala\x0f"


def first_frames(poller: Poller, frame_reader: FrameReader) -> tuple[dict[str, Any], list[bytes]]:
    """The settings, which come first, and the frames that came with them.

    Raises EOFError if the node closes the port before, and frames.FrameError.
    """
    while True:
        poller.wait(3600)
        found = frame_reader.frames()
        if found:
            if found[0][0] != frames.SETTINGS:
                raise frames.FrameError("the first frame does not hold the settings")
            return decoder.decode(found[0], 2), found[1:]


class Worker:
    """One worker: builds its parts, runs them, and closes them."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        poller: Poller,
        frame_reader: FrameReader,
        settings: dict[str, Any],
    ) -> None:
        self._read_fd = read_fd
        self._settings = settings
        self._pid = os.getpid()
        self._main_ident = get_ident()
        self._stop_seconds = _seconds(settings["stop_timeout"])
        self._stops_in_order = False
        self._is_stopping = False
        uses_main = settings["thread"] == "main"
        most_streams = settings["max_threads"]
        regions = Regions()
        self._frame_writer = FrameWriter(write_fd, self.request_stop)
        self._loop = EventLoop(regions.current, self.abort, self._frame_writer.write_queued)
        self._ticker = Ticker(self.abort)
        self._pulse = Pulse(self._ticker, self._counters, self._send_pulse)
        self._threads = ThreadPool(poller, 2 * most_streams, self.abort)
        self._receiver = Receiver(
            frame_reader, poller, self.dispatch, self.request_stop, self._threads.submit
        )
        self._context = WorkerContext(
            self._frame_writer,
            self._ticker,
            self._threads,
            self._loop,
            self._receiver,
            regions,
            settings["none"],
        )
        self._slots = StreamSlots(most_streams, self._threads, self._receiver)
        self._main_thread = MainThread(regions.current, _print_traceback, self.abort)
        self._table = RequestTable(
            self._context,
            _seconds(settings["interrupt_after"]),
            _seconds(settings["interrupt_grace"]),
            (self._main_thread.withdraw, self._slots.withdraw),
            self._pulse,
        )
        end_object = self._main_thread.submit_work if uses_main else _as_it_is
        objects = Handles(settings.get("worker"), end_object)
        targets = Targets(settings["allow"], objects.get)
        handles.connect(objects.find)
        self._main_module = MainModule(targets.allows_code())
        opener = RequestOpener(
            self._context,
            self._table,
            targets,
            objects,
            self._slots,
            self._main_thread,
            self._main_module,
            uses_main,
        )
        self._node = NodeClient(self._context, self._slots.lend)
        self._context.flush_messages = self._node.messages.flush
        self._context.flush_output = self._node.stdout.flush_device
        self._stacks = Stacks(regions, self._loop)
        self._handlers: dict[int, Handler] = {
            **self._table.handlers(),
            **opener.handlers(),
            **self._node.handlers(),
            **objects.handlers(self._table.handlers()[frames.CANCEL]),
            frames.STOP: self._on_stop,
            frames.STACKS: self._on_stacks,
        }

    # From the start to the end; on the main thread.

    def run(self, early_frames: list[bytes]) -> None:
        """Until the end of the input."""
        settings = self._settings
        watch_node(self._read_fd, settings)
        open_about(settings)
        current.attach = attach_trace
        if settings["preload"]:
            # Which may replace what a loop is made of, as gevent does.
            self._loop.start()
        self._ticker.start()
        limit = settings["memory_limit"]
        memory = MemoryLimit(limit) if isinstance(limit, int) else None
        for frame in early_frames:
            work = self.dispatch(frame)
            if work is not None:
                self._threads.submit(work)
        # Before any user code runs: it may call Erlang functions.
        self._threads.start(self._receiver.read, memory, self._pulse.mark)
        self._node.open(settings["level"])
        signal.signal(signal.SIGTERM, self._on_sigterm)
        if not os.environ.get("PYTHONBREAKPOINT"):
            sys.breakpointhook = _say_how_to_debug
        self._main_module.open(settings["preload"], settings["journal"], _print_traceback)
        self._send_ready()
        Reload(self._ticker, settings.get("reload", []), self._send_changed).start()
        self._main_thread.run()
        self._loop.close(END_SECONDS)
        self._node.close()
        self._ticker.close()
        self._threads.close()

    def _send_ready(self) -> None:
        info = {
            Atom("python"): sys.version.split()[0],
            Atom("executable"): sys.executable,
            Atom("writer"): Atom(ways()[0]),
            Atom("protocol"): 1,
            Atom("input"): self._read_fd,
            Atom("os_pid"): self._pid,
            Atom("crash"): _record_crashes(),
            Atom("stacks"): _stacks_by_signal(),
            Atom("counters"): {Atom(name): n for name, n in self._counters().items()},
        }
        self._context.send(frames.READY, b"", [self._context.encoder().encode(info)])

    def keep_thread(self) -> bool:
        """Keeps the calling thread for as long as the worker lasts; false if it cannot be kept.

        It has forked a process that is to end with the worker.
        """
        if self._settings["children"] != "kill":
            return False
        return get_ident() == self._main_ident or self._threads.keep()

    def end_where_user_code_ends(self, end: Callable[[], None]) -> None:
        """In a forked child: when the code that forked it comes back, `end` is called."""
        self._context.region().leave = self._context.end_child = end

    # Frames in; on whichever thread reads.

    def dispatch(self, frame: bytes) -> Work | None:
        """Does what a frame asks for, or returns it as work for a thread."""
        try:
            if frame.__class__ is OversizedFrame:
                raise MemoryError("no memory for a request of this size")
            offset = 2 + frame[1]
            if not self._pulse.is_due:
                self._pulse.mark()
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
        self._table.discard(address)
        reason = self._context.reason(error, False)
        if kind == frames.STREAM:
            prefix = frames.read_stream(frame, offset)[0].prefix
            self._context.send(frames.LAST, address, [prefix, ERROR, reason])
        else:
            self._context.send(frames.REPLY, address, [b"\x83", ERROR, reason])

    def _on_stacks(self, _frame: bytes, address: bytes, _offset: int) -> None:
        # Here, on whatever thread reads: the others may all be busy.
        text = self._stacks.format().encode("utf-8", "backslashreplace")
        self._context.send(frames.STACKS_RESULT, address, [text])

    def _send_changed(self, path: str) -> None:
        self._context.send(frames.CHANGED, b"", [os.fsencode(path)])

    def _send_pulse(self, counters: dict[str, int]) -> None:
        self._context.send(frames.PULSE, b"", [encode(counters)])

    def _counters(self) -> dict[str, int]:
        return {
            **self._threads.statistics(),
            **self._loop.statistics(),
            **self._slots.statistics(),
            "requests": len(self._table),
            "waiting_main": self._main_thread.waiting(),
            "waits": self._threads.waits + self._slots.waits + self._main_thread.waits,
        }

    # The end; from any thread.

    def _on_stop(self, _frame: bytes, _address: bytes, _offset: int) -> None:
        # The end of the input comes next.
        self._stops_in_order = True

    def _on_sigterm(self, _number: int, _frame: Any) -> None:
        if os.getpid() == self._pid:
            self._context.send(frames.LEAVING, b"", [])
            self._context.cancelled_reason = _ENDED_BY_SIGNAL
            self._stop(self._stop_seconds, True)

    def request_stop(self) -> None:
        """The input has ended: the node is gone, or wants no more."""
        self._node.disconnect()
        self._stop(self._stop_seconds if self._stops_in_order else LEAVE_SECONDS, False)

    def _stop(self, seconds: float, lets_calls_end: bool) -> None:
        """Ends what runs, on a thread of its own; the main thread then leaves.

        Nothing outlasts the time, whatever it does: the interpreter lock is not needed to end
        the process then.
        """
        if self._is_stopping:
            return
        self._is_stopping = True
        try:
            if seconds < math.inf:
                exit_after(seconds)
            start_thread(lambda: self._end_requests(seconds, lets_calls_end), "erlang_port stop")
        except BaseException:
            os._exit(1)  # There is no memory for a thread.

    def _end_requests(self, seconds: float, lets_calls_end: bool) -> None:
        end = time.monotonic() + seconds * (1 - _LAST_PART)
        self._table.cancel_all(with_calls=not lets_calls_end)
        if lets_calls_end and not self._table.wait_until(end - END_SECONDS):
            self._table.cancel_all(with_calls=True)
        if not self._table.wait_until(min(end, time.monotonic() + END_SECONDS)):
            self._table.interrupt_all_until(end)
        self._main_thread.stop()

    def abort(self, error: BaseException) -> None:
        """What must not happen has happened: the node learns why, and the process ends.

        Better than to go on with a thread less or a request that is never answered: the
        pool starts another worker.
        """
        try:
            _print_traceback(error)
            why = f"{type(error).__name__}: {reasons.message_of(error)}".encode()
            self._frame_writer.write_final(frames.header(frames.FAILED, b"", len(why)) + why, 0.2)
        finally:
            os._exit(1)


def _seconds(milliseconds: int | str) -> float:
    return math.inf if isinstance(milliseconds, str) else milliseconds / 1000


def _as_it_is(work: Work) -> Work:
    """For any thread that is free."""
    return work


def _record_crashes() -> int:
    """Has faulthandler write where the node finds it after a crash; a descriptor, or -1."""
    try:
        fd = os.memfd_create("erlang_python_crash")
    except (AttributeError, OSError):
        return -1  # Not on Linux: it stays on standard error.
    faulthandler.enable(fd)
    return fd


def _say_how_to_debug(*_args: Any, **_kwargs: Any) -> None:
    """In place of a debugger, which would have no terminal."""
    import logging

    frame = sys._getframe(1)
    logging.getLogger("erlang.debugger").warning(
        "breakpoint() in %s, line %d, is passed over: the worker has no terminal. With the pool "
        'option env => [{"PYTHONBREAKPOINT", "erlang.debugger.listen"}] it waits at a port',
        frame.f_code.co_filename,
        frame.f_lineno,
    )


def _stacks_by_signal() -> tuple[int, int] | None:
    """Has faulthandler write what all threads do when a signal comes: its number, and a descriptor.

    That needs no interpreter lock. It is one of the signals that have no name of their own, since
    programs use the others. None outside Linux.
    """
    try:
        number = int(signal.SIGRTMAX)
        fd = os.memfd_create("erlang_python_stacks")
    except (AttributeError, OSError):
        return None
    faulthandler.register(number, fd, all_threads=True)
    return number, fd


def _print_traceback(error: BaseException) -> None:
    """Prints a traceback, if there is anywhere to print it."""
    try:
        sys.stderr.write(reasons.traceback_of(error))
        sys.stderr.flush()
    except BaseException:  # noqa: S110
        pass  # A full disk, a closed descriptor or no memory are no reason to fail.
