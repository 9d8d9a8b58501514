"""`logging` of a worker: records for the node's `logger`, as far as it wants them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from erlang_port import reasons
from erlang_port.about import describe, metadata
from erlang_port.current import running
from erlang_port.etf.encoder import Encoder
from erlang_port.hints import Any
from erlang_port.node.lossy_channel import LossyChannel


class LogHandler(logging.Handler):
    """Sends records on. The node's level is this handler's, and the root logger's."""

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        super().__init__()
        self._encoder = encoder
        self._channel: LossyChannel | None = None
        self._root = logging.getLogger()
        self._set = self._root.level

    def open(self, channel: LossyChannel, level: int) -> None:
        """From now on records are sent."""
        self._channel = channel
        self.set_level(level)
        self._root.addHandler(self)
        # What replaces the handlers, as `logging.basicConfig(force=True)`, leaves this one.
        remove = self._root.removeHandler
        self._root.removeHandler = (  # type: ignore[method-assign]
            lambda hdlr: None if hdlr is self and self._channel else remove(hdlr)
        )

    def disconnect(self) -> None:
        """In a forked child, and when the node is gone: records go to stderr."""
        self._channel = None
        self._root.removeHandler(self)

    def set_level(self, level: int) -> None:
        """The node wants records from this level on, in Python's numbers."""
        self.setLevel(level)
        # A level that user code has set stays.
        if self._root.level == self._set:
            self._root.setLevel(level)
            self._set = level

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a record, or drops it and counts."""
        channel = self._channel
        if channel is None:
            return
        try:
            channel.offer(self._encoder().buffers(self._fields(record)))
        except Exception:
            self.handleError(record)

    def note(self, count: int) -> list[Any]:
        """Takes the place of records that were dropped."""
        text = f"{count} log records were dropped: the node did not take them"
        record = logging.LogRecord("erlang", logging.WARNING, __file__, 0, text, None, None)
        return [*self._encoder().buffers(self._fields(record))]

    def _fields(self, record: logging.LogRecord) -> tuple[Any, ...]:
        """As `_standard_fields`, then the request, its metadata, and what `extra` has."""
        request = running()
        return (
            *_standard_fields(record),
            describe(request),
            metadata(request),
            {
                _utf8(key): self._sendable(value)
                for key, value in record.__dict__.items()
                if key not in _STANDARD
            },
        )

    def _sendable(self, value: Any) -> Any:
        try:
            self._encoder().encode(value)
        except Exception:
            return repr(value)
        return value


#: What every record has; the rest is from `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _standard_fields(record: logging.LogRecord) -> tuple[Any, ...]:
    """Level, logger, message, module, function, file, line, time in microseconds, traceback."""
    trace = b""
    if record.exc_info and record.exc_info[1] is not None:
        trace = _utf8(reasons.traceback_of(record.exc_info[1]))
    elif record.exc_text:
        trace = _utf8(record.exc_text)
    if record.stack_info:
        trace += _utf8(record.stack_info)
    return (
        record.levelno,
        _utf8(record.name),
        _utf8(record.getMessage()),
        _utf8(record.module),
        _utf8(record.funcName or ""),
        _utf8(record.pathname),
        record.lineno,
        int(record.created * 1_000_000),
        trace,
    )


def _utf8(text: object) -> bytes:
    return str(text).encode("utf-8", "backslashreplace")
