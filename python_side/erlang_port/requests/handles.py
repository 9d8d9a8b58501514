"""Objects that stay in this worker for as long as the node has a handle of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from erlang_port.etf.handles import Ref
from erlang_port.etf.terms import Pid
from erlang_port.hints import Any
from erlang_port.requests.request_table import Handler
from erlang_port.runtime.thread_pool import Work
from erlang_port.wire import frames


class Handles:
    """The objects, by what their handles are known by."""

    def __init__(self, worker: Pid | None, run: Callable[[Work], Work | None]) -> None:
        self._worker = worker
        #: Lets an object end where user code runs: its finalizer may take long.
        self._run = run
        #: Unlike that of any other worker.
        self._prefix = os.urandom(6).hex()
        self._numbers = itertools.count(1)
        self._objects: dict[str, tuple[Any, bytes]] = {}
        #: By the request that has made them: the node may have given it up.
        self._made_by: dict[bytes, str] = {}

    def handlers(self, cancel: Handler) -> dict[int, Handler]:
        """What is done for each kind of frame, a cancel in addition to what `cancel` does."""

        def on_cancel(frame: bytes, address: bytes, offset: int) -> Work | None:
            work = cancel(frame, address, offset)
            # The result crossed the cancel, and nobody has it. One that is made from here on is
            # let go of by its request, which is cancelled.
            return self.release_made_by(address) or work

        def on_release(frame: bytes, _address: bytes, offset: int) -> Work | None:
            return self._release(bytes(frame[offset:]).decode())

        return {frames.CANCEL: on_cancel, frames.RELEASE: on_release}

    def keep(self, request: bytes, value: Any) -> tuple[Pid | None, bytes]:
        """Keeps the result of a request: what its handle is made of."""
        identity = f"{self._prefix}-{next(self._numbers)}"
        # In this order: a request that is broken off in between lets go of what is there.
        self._made_by[request] = identity
        self._objects[identity] = value, request
        return self._worker, identity.encode()

    def release_made_by(self, request: bytes) -> Work | None:
        """Lets go of what a request has made whose result nobody gets; what is left to be done."""
        made = self._made_by.get(request)
        return None if made is None else self._release(made)

    def get(self, identity: str) -> Any:
        """The object; ReferenceError if there is none any more."""
        try:
            return self._objects[identity][0]
        except KeyError:
            raise ReferenceError("the handle was released") from None

    def find(self, reference: Ref) -> Any:
        """The object of a handle, or the handle itself if it is of another worker."""
        identity = reference.identity.decode()
        return self.get(identity) if identity.startswith(self._prefix) else reference

    def _release(self, identity: str) -> Work | None:
        entry = self._objects.pop(identity, None)
        if entry is None:
            return None
        self._made_by.pop(entry[1], None)
        kept = [entry]
        del entry
        return self._run(kept.clear)
