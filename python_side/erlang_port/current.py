"""Which request the running code belongs to: a stream, a call or an execution."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

#: A context variable, so that it is right for every task of an event loop, and in the
#: threads of asyncio.to_thread. A thread of the user's own has none.
current: ContextVar[Any] = ContextVar("erlang_request", default=None)
