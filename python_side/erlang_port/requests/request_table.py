"""The requests that are under way, by address: their credit, their cancels, their end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from time import sleep

from erlang_port.context import Request, WorkerContext
from erlang_port.hints import Any
from erlang_port.runtime.interrupt import Outcome
from erlang_port.runtime.pulse import Pulse
from erlang_port.runtime.thread_pool import Work
from erlang_port.wire import frames

#: How soon code is tried again that could not be interrupted where it was, in seconds. A larger
#: number lets it run on for longer, a smaller one costs the ticker more.
RETRY_SECONDS = 0.02
LONGEST_RETRY_SECONDS = 0.5

Handler = Callable[[bytes, bytes, int], Work | None]

#: Takes a request out of a queue in which it waits to run; what is to run at once in its place.
Withdraw = Callable[[Any], Work | None]


class RequestTable:
    """All requests, and what the node says of those that it has made."""

    def __init__(
        self,
        context: WorkerContext,
        interrupt_after: float,
        interrupt_grace: float,
        queues: tuple[Withdraw, ...],
        pulse: Pulse,
    ) -> None:
        self._context = context
        self._pulse = pulse
        self._interrupt_after = interrupt_after
        self._interrupt_grace = interrupt_grace
        self._queues = queues
        #: Those that are under way, by address.
        self.requests: dict[bytes, Request] = {}

    def __len__(self) -> int:
        return len(self.requests)

    def handlers(self) -> dict[int, Handler]:
        """What is done for each kind of frame; on whichever thread reads."""
        return {
            frames.CANCEL: self._on_cancel,
            frames.CREDIT: self._on_credit,
            frames.PING: self._on_ping,
        }

    def discard(self, address: bytes) -> None:
        """Forgets a request that is answered by somebody else."""
        self.requests.pop(address, None)

    def end(self, request: Request, kind: int, buffers: list[Any]) -> None:
        """Sends the last frame of a request, and forgets it.

        Raises frames.FrameTooLargeError; the request is then still there.
        """
        size = len(buffers[0]) + len(buffers[1]) if len(buffers) == 2 else sum(map(len, buffers))
        header = frames.header(kind, request.address, size)
        self.requests.pop(request.address, None)
        if not self._pulse.is_due:
            self._pulse.mark()
        self._context.frame_writer.put([header, *buffers], size + len(header))

    def cancel(self, request: Request) -> None:
        """Lets a request end as soon as may be."""
        request.cancel()
        for withdraw in self._queues:
            work = withdraw(request)
            if work is not None:
                # It runs no code of the user's any more, and need not wait for its turn.
                self._context.threads.submit(work)

    def cancel_all(self, with_calls: bool) -> None:
        """Cancels every stream, and every call if wanted."""
        for request in list(self.requests.values()):
            if request.is_stream or with_calls:
                self.cancel(request)

    def interrupt_all_until(self, end: float) -> None:
        """Breaks every request off, once each, until none is left or it is `end`."""
        raised: set[bytes] = set()
        while self.requests and time.monotonic() < end:
            for request in list(self.requests.values()):
                if (
                    request.address not in raised
                    and self._context.regions.interrupt(request) is Outcome.RAISED
                ):
                    raised.add(request.address)
            self.wait_until(min(end, time.monotonic() + RETRY_SECONDS))

    def wait_until(self, end: float) -> bool:
        """Waits until every request has ended; false if it is `end` before."""
        while self.requests and time.monotonic() < end:
            sleep(0.002)
        return not self.requests

    def _on_cancel(self, _frame: bytes, address: bytes, _offset: int) -> None:
        request = self.requests.get(address)
        if request is None:
            # It has just ended, or never came: the node waits for the end no more.
            self._context.send(frames.NOT_RUNNING, address, [])
            return
        self.cancel(request)
        if self._interrupt_after < math.inf:
            self._interrupt_later(request)

    def _interrupt_later(self, request: Request) -> None:
        """Breaks a cancelled request off after `interrupt_after`, and until it has ended.

        What has been broken off, or was cancelled where it waited, has `interrupt_grace` for
        its clean-up before the next time.
        """
        last = time.monotonic()
        retry = RETRY_SECONDS

        def interrupt() -> None:
            nonlocal last, retry
            if request.is_ended:
                return
            outcome = self._context.regions.interrupt(request)
            # The longer an import takes, the less it is slowed down by this.
            pause = retry
            retry = min(retry * 1.5, LONGEST_RETRY_SECONDS)
            if outcome is Outcome.RAISED:
                last = time.monotonic()
                retry = RETRY_SECONDS
                pause = self._interrupt_grace
            elif outcome is Outcome.ELSEWHERE:
                pause = max(self._interrupt_after, RETRY_SECONDS)
                if time.monotonic() - last >= self._interrupt_grace:
                    # Code that took the first cancellation for something else gets another.
                    last = time.monotonic()
                    request.cancel()
            if pause < math.inf:
                self._context.ticker.call_later(pause, interrupt)

        self._context.ticker.call_later(self._interrupt_after, interrupt)

    def _on_credit(self, frame: bytes, address: bytes, offset: int) -> None:
        request = self.requests.get(address)
        if request is not None:
            request.credit(*frames.read_credit(frame, offset))

    def _on_ping(self, _frame: bytes, address: bytes, _offset: int) -> None:
        requests = list(self.requests.values())
        streams = sum(request.is_stream for request in requests)
        self._context.send(frames.PONG, address, [frames.pong(len(requests), streams)])
