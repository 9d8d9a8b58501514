"""asyncio's loop and tasks, as far as those of many requests that share one must differ."""

from __future__ import annotations

import asyncio
import sys

from erlang_port.current import current
from erlang_port.hints import Any, Final

#: Since Python 3.12 a task takes its first step when it is made, and not in the next turn.
_EAGER: Final[dict[str, Any]] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class RequestTask(asyncio.Task[Any]):
    """A task of a request, which no other request cancels.

    Code that shuts a program down cancels every task that there is, by asyncio.all_tasks().
    What belongs to no request may: the worker, and threads of the user's own.
    """

    def __init__(self, work: Any, loop: asyncio.AbstractEventLoop, request: Any) -> None:
        self.request = request
        super().__init__(work, loop=loop, **_EAGER)

    def cancel(self, msg: Any = None) -> bool:
        """As the base class does; false where another request asks for it."""
        return current.get() in (None, self.request) and super().cancel(msg)

    def end(self) -> None:
        """The loop ends: the request is cancelled, also if it came when all others had been."""
        self.request.is_cancelled = True
        self.cancel()


class RequestsLoop(asyncio.SelectorEventLoop):
    """A loop that many requests share: what one of them shuts down is not the others'.

    That is what a library does which takes the loop for its own, after `stop`.
    """

    async def shutdown_asyncgens(self) -> None:
        """Leaves the async generators of the others alone."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Leaves the threads of asyncio.to_thread to the others."""
