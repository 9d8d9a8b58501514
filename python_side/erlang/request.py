"""What running code may know of the stream or the call that it runs for."""

from __future__ import annotations

from erlang_port.about import running_about
from erlang_port.current import running
from erlang_port.etf import decoder
from erlang_port.etf.terms import Pid, Reference
from erlang_port.hints import Any


class Stream:
    """The stream that the running code belongs to."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    @property
    def reference(self) -> Reference:
        """The reference that its events carry."""
        # The start of every event: {py_stream, Reference, ...
        _, found, _ = decoder.decode(self._request.prefix + b"j")
        return found  # type: ignore[no-any-return]

    @property
    def owner(self) -> Pid:
        """The process that gets its events."""
        return decoder.decode(self._request.owner)  # type: ignore[no-any-return]

    def cancelled(self) -> bool:
        """Whether nobody wants more of it: it was cancelled, its owner is gone, or it has ended."""
        return self._request.is_cancelled or self._request.is_ended  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Erlang stream {self.reference} of {self.owner}>"


def stream() -> Stream | None:
    """The stream that the calling code runs for; None in a call, and in threads of your own."""
    request = running()
    return Stream(request) if getattr(request, "prefix", None) else None


def metadata() -> dict[str, Any]:
    """The option `metadata` of the running request, and its `pool`, `worker` and `request`.

    `request` has the module, the function and the reference. In threads of your own there are
    pool and worker alone.
    """
    return running_about()


def cancelled() -> bool:
    """Whether the stream or call that the calling code runs for is not wanted any more.

    For code that wants to stop politely, before it is interrupted: it was cancelled or timed out.
    False in threads of your own.
    """
    request = running()
    return request is not None and (request.is_cancelled or request.is_ended)
