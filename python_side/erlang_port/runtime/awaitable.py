"""What can be awaited, without the module `inspect`, which takes long to import."""

from __future__ import annotations

from collections.abc import Awaitable
from types import CoroutineType, GeneratorType

from erlang_port.hints import Any

_ITERABLE_COROUTINE = 0x100


def is_awaitable(value: Any) -> bool:
    """As inspect.isawaitable says."""
    if isinstance(value, GeneratorType):
        return bool(value.gi_code.co_flags & _ITERABLE_COROUTINE)
    return isinstance(value, (CoroutineType, Awaitable))
