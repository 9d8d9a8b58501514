"""The worker's event loop, on a thread of its own, and the one door into it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from erlang_port.interrupt import UserCode


class Loop:
    """Runs async streams and calls; other threads come in by `call` alone."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._line: deque[Callable[[], object]] = deque()
        self._is_called = False
        self.user_code = UserCode()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="erlang_port loop", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self.user_code.enter()
        while True:
            try:
                self._loop.run_forever()
                return
            except BaseException:
                # SystemExit in a task that user code made, or an interrupt that came late.
                logging.getLogger(__name__).exception("the event loop goes on after an exception")

    def call(self, function: Callable[[], object]) -> None:
        """Runs a function on the loop, in the order of the calls.

        asyncio's own objects are not thread-safe: from outside, everything goes through
        here. Calls that come together share one wake-up, which is a system call.
        """
        self._line.append(function)
        if not self._is_called:
            self._is_called = True
            try:
                self._loop.call_soon_threadsafe(self._run_line)
            except RuntimeError:
                pass  # The loop is closed: the program is leaving.

    def _run_line(self) -> None:
        # Set back before the line is read: what comes later rings again.
        self._is_called = False
        while self._line:
            self._line.popleft()()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Runs a function on the loop, from the loop."""
        self._loop.call_soon(function)

    def create_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a task, from the loop. It is kept from being collected."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def interrupt(self, task: asyncio.Task[Any] | None) -> None:
        """Breaks off what the loop runs at the moment, if it is a step of this task."""
        if task is not None and asyncio.current_task(self._loop) is task:
            self.user_code.interrupt()

    def runs_in(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `loop` is this one."""
        return loop is self._loop

    def statistics(self) -> dict[str, int]:
        """How many tasks there are."""
        return {"tasks": len(self._tasks)}

    def close(self, seconds: float) -> None:
        """Cancels every task, waits for them for so long, and stops."""
        self.call(self._cancel_all)
        self._thread.join(seconds)

    def _cancel_all(self) -> None:
        tasks = [task for task in asyncio.all_tasks(self._loop) if not task.done()]
        for task in tasks:
            task.cancel()

        async def stop() -> None:
            await asyncio.gather(*tasks, return_exceptions=True)
            self._loop.stop()

        self._closing = self._loop.create_task(stop())
