"""Calls that are cancelled before they have begun."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from erlang_port.requests.call import Call
from port import PATIENCE
from streams import NodeClient, StreamContext, options


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_coroutine_that_is_cancelled_before_the_loop_has_it_takes_no_step(
    cancelled: bool,
) -> None:
    context = StreamContext(NodeClient(options()))
    steps: list[str] = []
    replies: list[list[Any]] = []
    is_over, may_start = threading.Event(), threading.Event()

    async def work() -> str:
        steps.append("one")
        return "result"

    def end(_request: Any, _kind: int, buffers: list[Any]) -> None:
        replies.append(buffers)
        is_over.set()

    call = Call(context, end, b"address", 0, lambda *_: (work, [], {}), ())  # type: ignore[arg-type]
    context.loop.call_soon_threadsafe(may_start.wait)
    call.run()
    if cancelled:
        call.cancel()
    may_start.set()
    assert is_over.wait(PATIENCE)
    context.close()
    assert steps == ([] if cancelled else ["one"])
    assert (b"Cancelled" in b"".join(replies[0])) is cancelled
    assert len(replies) == 1
