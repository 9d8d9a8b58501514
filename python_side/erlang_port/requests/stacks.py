"""What every thread and every task of a worker is doing, as text."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType

from erlang_port.about import describe
from erlang_port.current import current
from erlang_port.hints import Any
from erlang_port.runtime.event_loop import EventLoop
from erlang_port.runtime.interrupt import InterruptibleCoroutine
from erlang_port.runtime.regions import Regions
from erlang_port.runtime.safe_points import frames_of_threads

#: Frames of a thread that are shown, the innermost. More make the text of a deep recursion long.
_MOST_FRAMES = 60

#: The folder of this program.
_OWN = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep

#: Types of C that stand between what awaits and what is awaited.
_STEPS = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper")


class Stacks:
    """Reads the stacks of a running process; no code of the user's is called."""

    def __init__(self, regions: Regions, loop: EventLoop) -> None:
        self._regions = regions
        self._loop = loop

    def format(self) -> str:
        """The threads that run code of the user's, the tasks, and how many threads are idle."""
        from traceback import walk_stack  # Which takes long to import.

        running = self._regions.running()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        parts = []
        # The calling one reads.
        idle = 1
        for ident, frame in frames_of_threads().items():
            stack = _outside(list(walk_stack(frame))[::-1])
            if not stack or _waits_for_events(frame):
                idle += 1
                continue
            name = names.get(ident, "")
            parts.append(_part(f"Thread {ident} {name!r}{_for(running.get(ident))}", stack))
        for task in self._loop.tasks():
            request = getattr(task, "request", None) or _request_in(task)
            parts.append(
                _part(f"Task {task.get_name()!r}{_for(request)}", _outside(_steps(task.get_coro())))
            )
        parts.append(f"{idle} threads of the worker's own are idle or read.\n")
        return "\n".join(parts)


def _part(head: str, stack: list[tuple[FrameType, int]]) -> str:
    from traceback import StackSummary

    summary = StackSummary.extract(iter(stack[-_MOST_FRAMES:]))
    return head + ":\n" + ("".join(summary.format()) or "  has not begun\n")


def _outside(stack: list[tuple[FrameType, int]]) -> list[tuple[FrameType, int]]:
    """A stack, the outermost first, without what this program has before code of the user's."""
    for index, (frame, _) in enumerate(stack):
        name = frame.f_code.co_filename
        if not name.startswith(_OWN) and "runpy" not in name:
            return stack[index:]
    return []


def _waits_for_events(frame: FrameType) -> bool:
    """Whether it is the event loop that has nothing to do."""
    loop = frame.f_back.f_back if frame.f_back else None
    return frame.f_code.co_name == "select" and loop is not None and _is_ours(loop)


def _is_ours(frame: FrameType | None) -> bool:
    # The loop's own frames, and below them this program's.
    while frame is not None and "asyncio" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_OWN)


def _steps(awaited: Any) -> list[tuple[FrameType, int]]:
    """Where a coroutine is suspended, and what it awaits."""
    return list(_chain(awaited))


def _chain(awaited: Any) -> Iterator[tuple[FrameType, int]]:
    while awaited is not None:
        for prefix, link in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(awaited, f"{prefix}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                awaited = getattr(awaited, f"{prefix}_{link}")
                break
        else:
            awaited = _behind(awaited)


def _behind(awaited: Any) -> Any:
    """What stands behind something that has no frame of its own, and is neither task nor future."""
    if isinstance(awaited, InterruptibleCoroutine):
        return awaited.coroutine
    if type(awaited).__name__ not in _STEPS:
        return None
    steps = (AsyncGeneratorType, CoroutineType)
    return next((found for found in gc.get_referents(awaited) if isinstance(found, steps)), None)


def _request_in(task: Any) -> Any:
    """The request that a task of the user's belongs to (Python 3.12)."""
    get_context = getattr(task, "get_context", None)
    return get_context().get(current) if get_context is not None else None


def _for(request: Any) -> str:
    about = describe(request)
    if about is None:
        return ""
    kind = "stream" if request.is_stream else "call"
    named = ".".join(name for name in (about["module"], about["function"]) if name)
    return f", for the {kind} {named} {about.get('reference', '')}".rstrip()
