"""What the running code belongs to: its request, and the node client of this process.

A worker is one process, and threads that user code starts have nothing else to know their
worker by.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context

from erlang_port.hints import Any

#: The stream, call or exec that the running code belongs to. A context variable, so that it
#: is right for every task of an event loop, and in the threads of asyncio.to_thread. A thread
#: of the user's own has none.
current: ContextVar[Any] = ContextVar("erlang_request", default=None)

_node: Any = None

#: The flags of a request that has metadata are these or more.
_WITH_METADATA = b"\x10"

#: Called in the context of a request that came with metadata.
attach: Callable[[Any], None] | None = None

#: The request of code that runs for none: of a test, see `connect`.
_stand_in: Any = None

#: What every request begins with: what the preloaded code has set.
_base = Context()

#: Values of it that can be changed in place, so that each request needs its own.
_changeable: list[tuple[ContextVar[Any], Any]] = []


def share_context() -> None:
    """Makes the calling thread's context, as it is now, the one that requests begin with."""
    global _base, _changeable
    _base = copy_context()
    # decimal.getcontext() is changed in place, unlike what else is kept in a context.
    decimal = sys.modules.get("decimal")
    contexts = () if decimal is None else decimal.Context
    _changeable = [(var, value) for var, value in _base.items() if isinstance(value, contexts)]


def context_of(request: Any) -> Context:
    """A context for a request, of which no other request sees anything."""
    context = _base.copy()
    context.run(current.set, request)
    if attach is not None and getattr(request, "about", b"")[1:2] >= _WITH_METADATA:
        context.run(attach, request)
    for var, value in _changeable:
        context.run(var.set, value.copy())
    return context


def connect(node: Any, stand_in: Any = None) -> tuple[Any, Any]:
    """Makes `node` the node client of this process; None where there is none any more.

    `stand_in` is the request of code that runs for none, in tests. Returns what there was before.
    """
    global _node, _stand_in
    before = _node, _stand_in
    _node, _stand_in = node, stand_in
    return before


def running() -> Any:
    """The stream, call or exec that the calling code runs for, or None."""
    return current.get() or _stand_in


def has_node() -> bool:
    """Whether this process is a worker."""
    return _node is not None


def node() -> Any:
    """The node client of this process.

    Raises RuntimeError outside of a worker, and in a process that a worker has forked.
    """
    if _node is None:
        raise RuntimeError("this process is no worker of an Erlang node")
    return _node
