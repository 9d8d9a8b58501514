"""From a frame to code that runs: on a thread, on the main thread, or on the event loop."""

from __future__ import annotations

import itertools
from contextvars import copy_context
from functools import partial
from types import GeneratorType

from erlang_port.context import Request, WorkerContext
from erlang_port.current import current
from erlang_port.errors import Cancelled
from erlang_port.hints import Any
from erlang_port.requests.call import Call
from erlang_port.requests.handles import Handles
from erlang_port.requests.loop_reader import LoopReader
from erlang_port.requests.main_module import MainModule
from erlang_port.requests.main_thread import MainThread
from erlang_port.requests.request_table import Handler, RequestTable
from erlang_port.requests.stream import Stream
from erlang_port.requests.stream_slots import StreamSlots
from erlang_port.requests.targets import Targets, profiled_if
from erlang_port.requests.thread_runner import ThreadRunner
from erlang_port.runtime.awaitable import is_awaitable
from erlang_port.runtime.thread_pool import Work
from erlang_port.wire import frames

#: What code is called in log records.
_EXEC = b"exec"


class RequestOpener:
    """Starts what the node asks for."""

    def __init__(
        self,
        context: WorkerContext,
        table: RequestTable,
        targets: Targets,
        handles: Handles,
        slots: StreamSlots,
        main_thread: MainThread,
        main_module: MainModule,
        uses_main: bool,
    ) -> None:
        self._context = context
        self._end = table.end
        self._requests = table.requests
        self._targets = targets
        self._handles = handles
        self._slots = slots
        self._main_thread = main_thread
        self._main_module = main_module
        #: Whether calls and sync streams run on the main thread, too.
        self._uses_main = uses_main
        self._orders = itertools.count()
        #: Of all async streams.
        self._reader = LoopReader(context)

    def handlers(self) -> dict[int, Handler]:
        """What is done for each kind of frame; on whichever thread reads."""
        return {
            frames.STREAM: self._on_stream,
            frames.CALL: self._on_call,
            frames.EXEC: self._on_exec,
        }

    def _on_stream(self, frame: bytes, address: bytes, offset: int) -> Work | None:
        options, target = frames.read_stream(frame, offset)
        flags = frame[target + 1]
        names = frames.names_of(frame, target)
        stream = Stream(self._context, self._end, address, options, flags)
        stream.order = next(self._orders)
        stream.about = frames.about_of(frame, target, names)
        if flags & frames.FLAG_OUTPUT:
            stream.output = frames.extras_of(stream.about).output
        stream.runner = runner = ThreadRunner(stream)
        self._requests[address] = stream
        work = partial(self._open, runner, frame, target, names)
        return self._placed(stream, work, frame, target) if self._uses_main else work

    def _on_call(self, frame: bytes, address: bytes, offset: int) -> Work | None:
        flags = frame[offset + 1]
        names = frames.names_of(frame, offset)
        call = Call(
            self._context,
            self._end,
            address,
            flags,
            self._targets.bind,
            (frame, offset, names),
            self._handles if flags & frames.FLAG_HANDLE else None,
        )
        # Here and below without a call where none is needed: most requests are calls.
        call.about = names
        if flags >= frames.FLAG_METADATA:
            call.about = frames.about_of(frame, offset, names)
            if flags & frames.FLAG_OUTPUT:
                call.output = frames.extras_of(call.about).output
        self._requests[address] = call
        return self._placed(call, call.run, frame, offset) if self._uses_main else call.run

    def _on_exec(self, frame: bytes, address: bytes, offset: int) -> None:
        flags = frame[offset]
        extras = frames.read_extras(flags, frame, offset + 1)
        code = bytes(frame[extras.end :])
        execution = Call(
            self._context,
            self._end,
            address,
            flags,
            lambda: (profiled_if(self._main_module.execute, extras.profile), [code.decode()], {}),
            (),
        )
        # As if it were an expression, which it is called after.
        name = frames.TARGET.pack(frames.EXPRESSION, flags, len(_EXEC), 0) + _EXEC
        execution.about = name + bytes(frame[offset + 1 : extras.end])
        execution.output = extras.output
        self._requests[address] = execution
        self._main_thread.submit(execution, execution.run)

    def _placed(self, request: Request, work: Work, frame: bytes, target: int) -> Work | None:
        """Leaves work to the main thread, if it is to run there; or returns it."""
        if not self._targets.is_async(frame, target):
            self._main_thread.submit(request, work)
            return None
        return work

    # Streams: from a request to an iterator; on a thread.

    def _open(self, runner: ThreadRunner, frame: bytes, target: int, names: bytes) -> None:
        stream = runner.stream

        def source() -> tuple[bool, Any]:
            if stream.is_cancelled:
                raise Cancelled
            function, args, kwargs = self._targets.bind(frame, target, names)
            value = function(*args, **kwargs)
            kind = type(value)
            if kind is GeneratorType:
                return False, value
            if hasattr(kind, "__aiter__") or is_awaitable(value):
                return True, value
            return False, iter(value)

        found = runner.run_user_code(source)
        del source
        if found is None:
            return
        is_async, value = found
        if is_async:
            # Imported when it is needed: asyncio is a third of what a worker would import.
            from erlang_port.requests.loop_runner import LoopRunner

            loop_runner = LoopRunner(
                stream, value, runner.variables, self._iterate_on_thread, self._reader
            )
            stream.runner = loop_runner
            self._context.loop.call_soon_threadsafe(loop_runner.start)
        else:
            runner.iterator = value
            self._iterate(stream)

    def _iterate_on_thread(self, stream: Stream, value: Any) -> None:
        """A coroutine returned something that is iterated on a thread."""
        # The task's: this is the end of its last step.
        variables = copy_context()
        variables.run(current.set, stream)
        stream.runner = runner = ThreadRunner(stream, variables)

        def source() -> Any:
            if stream.is_cancelled:
                raise Cancelled
            return iter(value)

        def iterate() -> None:
            runner.iterator = runner.run_user_code(source)
            if runner.iterator is not None:
                self._iterate(stream)

        if self._uses_main:
            self._main_thread.submit(stream, iterate)
        else:
            self._context.threads.submit(iterate)

    def _iterate(self, stream: Stream) -> None:
        if self._uses_main:
            self._slots.run_on_main(stream)
        else:
            self._slots.run(stream)
