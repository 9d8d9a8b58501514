"""The exceptions that user code meets, one sentence each."""

from __future__ import annotations

from erlang_port.hints import Any


class ErlangError(Exception):
    """An Erlang function that Python code called did not return.

    `kind` is `error`, `exit` or `throw` (an Atom), `reason` any term, `stacktrace` a list of
    `(module, function, arity, (file, line))`, `formatted` the text that the Erlang shell would
    show.
    """

    def __init__(self, kind: Any, reason: Any, stacktrace: Any = (), formatted: Any = "") -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason
        self.stacktrace = list(stacktrace)
        self.formatted = formatted if isinstance(formatted, str) else str(formatted, "utf-8")

    def __str__(self) -> str:
        return self.formatted or f"{self.kind}: {self.reason!r}"


class Cancelled(BaseException):
    """Raised inside Python code whose stream or call was cancelled or timed out.

    Not an Exception, so that a handler for errors does not take it for one.
    """


class NotAllowed(Exception):  # noqa: N818 - named as the reason that the node gets
    """The pool option `allow` does not name this."""
