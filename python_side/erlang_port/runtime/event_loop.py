"""The worker's event loop, on a thread of its own, and the one door into it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from threading import Lock, get_ident

from erlang_port.hints import TYPE_CHECKING, Any
from erlang_port.runtime.interrupt import InterruptibleCoroutine, InterruptibleRegion
from erlang_port.runtime.threads import start_thread

if TYPE_CHECKING:
    import asyncio

    from erlang_port.runtime.requests_loop import RequestsLoop, RequestTask


class EventLoop:
    """Runs async streams and calls; other threads come in by `call_soon_threadsafe` alone.

    It starts when it is first needed: asyncio is a third of what a worker would have to import,
    and of the memory that it would have.
    """

    def __init__(
        self,
        region: Callable[[], InterruptibleRegion],
        failed: Callable[[BaseException], None],
        turn_ended: Callable[[], None],
    ) -> None:
        self._make_region = region
        self._failed = failed
        #: Called when all has been called that `call_at_end_of_turn` was given.
        self._turn_ended = turn_ended
        self._at_end: list[Callable[[], None]] = []
        self.is_ending_turn = False
        self._loop: RequestsLoop | None = None
        self._starting = Lock()
        self._queue: deque[Callable[[], object]] = deque()
        self._is_called = False
        #: Whether the loop's thread reads, and so sees what it is called for before it sleeps. A
        #: finalizer may call on that thread when the loop has found that there is nothing to do.
        self._is_reading = False
        self._is_closing = False
        #: The loop's.
        self._thread = 0
        #: Of the loop's thread.
        self.region: InterruptibleRegion | None = None
        self._tasks: set[RequestTask] = set()
        #: Held until the thread has ended.
        self._ended = Lock()
        self._ended.acquire()

    def start(self) -> None:
        """Starts the loop and its thread, if they have not started."""
        with self._starting:
            if self._loop is None:
                from erlang_port.runtime.requests_loop import RequestsLoop

                self._loop = loop = RequestsLoop()
                start_thread(lambda: self._run(loop), "erlang_port loop")

    def _run(self, loop: RequestsLoop) -> None:
        import asyncio

        asyncio.set_event_loop(loop)
        self.region = self._make_region()
        self._thread = get_ident()
        while True:
            try:
                loop.run_forever()
                if self._is_closing:
                    self._ended.release()
                    return
                # User code has stopped it, which is not its to stop.
            except BaseException as error:
                if loop.is_closed():
                    self._failed(error)
                    return
                # SystemExit in a task that user code made. What else there was to do is
                # still queued.
                import logging

                logging.getLogger(__name__).exception("the event loop goes on after an exception")

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        """Runs a function on the loop, in the order of the calls.

        asyncio's own objects are not thread-safe: from outside, everything goes through
        here. Calls that come together share one wake-up, which is a system call.
        """
        self._queue.append(function)
        if not self._is_called:
            self._is_called = True
            if self._loop is None:
                self.start()
            assert self._loop is not None
            is_here = self._is_reading and get_ident() == self._thread
            call_soon = self._loop.call_soon if is_here else self._loop.call_soon_threadsafe
            try:
                # Not in the context of the request whose thread this is.
                call_soon(self._run_queue, context=Context())
            except RuntimeError as error:
                if not self._is_closing:
                    self._failed(error)  # User code has closed the loop.

    def _run_queue(self) -> None:
        # Set back before the queue is read: what comes later wakes the loop again.
        self._is_called = False
        try:
            # What comes meanwhile is for the next turn: others wait for theirs.
            for _ in range(len(self._queue)):
                self._queue.popleft()()
        except BaseException as error:
            self._failed(error)

    def read_when_ready(self, fd: int, read: Callable[[], None]) -> None:
        """Calls `read` whenever a descriptor can be read; from the loop."""
        assert self._loop is not None
        # Not in the context of the request whose task this is.
        Context().run(self._loop.add_reader, fd, self.read_now, read)

    def read_now(self, read: Callable[[], None]) -> None:
        """Calls `read`; what that calls the loop for needs no wake-up. From the loop."""
        self._is_reading = True
        try:
            read()
        finally:
            self._is_reading = False

    def stop_reading(self, fd: int) -> None:
        """Waits for a descriptor no more; from the loop."""
        assert self._loop is not None
        self._loop.remove_reader(fd)

    def call_at_end_of_turn(self, function: Callable[[], None]) -> None:
        """Runs a function when all tasks that can go on now have; from the loop."""
        if not self._at_end:
            assert self._loop is not None
            # Not in the context of the request whose task this is.
            self._loop.call_soon(self._end_turn, context=Context())
        self._at_end.append(function)

    def _end_turn(self) -> None:
        functions, self._at_end = self._at_end, []
        self.is_ending_turn = True
        try:
            for function in functions:
                function()
        except BaseException as error:
            self._failed(error)
        finally:
            self.is_ending_turn = False
            self._turn_ended()

    def create_task(
        self,
        request: object,
        work: Coroutine[Any, Any, Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> asyncio.Task[Any]:
        """Starts a task whose steps are code of `request`; from the loop."""
        from erlang_port.runtime.requests_loop import RequestTask

        assert self.region is not None
        assert self._loop is not None
        work = InterruptibleCoroutine(self.region, request, work, ended)
        task = RequestTask(work, self._loop, request)
        if not task.done():
            self._tasks.add(task)  # Which keeps it from being collected.
            task.add_done_callback(self._tasks.discard)
        return task

    def run_user_code(self, request: object, function: Callable[[], None]) -> None:
        """Calls code of `request` outside of its task, from the loop."""
        assert self.region is not None
        self.region.run(request, function)

    def runs_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `loop` is this one."""
        return loop is self._loop

    def tasks(self) -> list[asyncio.Task[Any]]:
        """All tasks of the loop, those of the user's code, too; from any thread."""
        loop = self._loop
        if loop is None:
            return []
        import asyncio

        return [task for task in asyncio.all_tasks(loop) if not task.done()]

    def statistics(self) -> dict[str, int]:
        """How many tasks there are."""
        return {"tasks": len(self._tasks)}

    def close(self, seconds: float) -> None:
        """Cancels every task, waits for them for so long, and stops."""
        self._is_closing = True
        if self._loop is None:
            return
        self.call_soon_threadsafe(self._cancel_all)
        self._ended.acquire(timeout=seconds)

    def _cancel_all(self) -> None:
        import asyncio

        loop = self._loop
        assert loop is not None
        tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in tasks:
            if task in self._tasks:
                task.end()
            else:
                task.cancel()

        async def stop() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            loop.stop()

        self._closing = loop.create_task(stop())
