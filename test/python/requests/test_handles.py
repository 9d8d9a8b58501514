"""Handles of results that nobody gets: the request is cancelled, or broken off, meanwhile."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest

from erlang_port.errors import Cancelled
from erlang_port.requests.call import OK, Call
from erlang_port.requests.handles import Handles
from erlang_port.runtime.thread_pool import Work
from erlang_port.wire import frames
from port import PATIENCE
from streams import NodeClient, StreamContext, options

ADDRESS = b"address"


class Thing:
    """What can be seen to end."""


def as_it_is(work: Work) -> Work:
    return work


def test_a_result_that_comes_while_its_request_is_cancelled_is_let_go() -> None:
    handles = Handles(None, as_it_is)
    ended = threading.Event()

    def end(_frame: bytes, address: bytes, _offset: int) -> None:
        thing = Thing()
        weakref.finalize(thing, ended.set)
        handles.keep(address, thing)

    work = handles.handlers(end)[frames.CANCEL](b"", ADDRESS, 0)
    assert work is not None
    work()
    assert ended.is_set()


@pytest.mark.parametrize("when", ["never", "before", "after", "broken off"])
def test_an_object_is_kept_if_its_handle_arrives_and_only_then(when: str) -> None:
    context = StreamContext(NodeClient(options()))
    replies: list[list[Any]] = []
    kept: list[bytes] = []
    ended = threading.Event()

    def cancel() -> None:
        work = on_cancel(b"", ADDRESS, 0)
        if work is not None:
            work()

    class Crossed(Handles):
        """Those of a node that gives the call up just when the result is kept."""

        def keep(self, request: bytes, value: Any) -> Any:
            if when == "before":
                cancel()
            handle = super().keep(request, value)
            kept.append(handle[1])
            if when == "after":
                cancel()
            if when == "broken off":
                raise Cancelled
            return handle

    def make() -> Thing:
        thing = Thing()
        weakref.finalize(thing, ended.set)
        return thing

    handles = Crossed(None, as_it_is)
    call = Call(
        context,  # type: ignore[arg-type]
        lambda _request, _kind, buffers: replies.append(buffers),
        ADDRESS,
        0,
        lambda *_: (make, [], {}),
        (),
        handles,
    )
    on_cancel = handles.handlers(lambda *_: call.cancel())[frames.CANCEL]
    call.run()
    assert len(replies) == 1
    if when == "never":
        assert replies[0][0] == OK
        assert type(handles.get(kept[0].decode())) is Thing
    else:
        assert ended.wait(PATIENCE)
        assert b"Cancelled" in b"".join(replies[0])
        with pytest.raises(ReferenceError):
            handles.get(kept[0].decode())
