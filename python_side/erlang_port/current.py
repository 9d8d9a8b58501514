"""What the running code belongs to: its request, and the node client of this process.

A worker is one process, and threads that user code starts have nothing else to know their
worker by.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

#: The stream, call or exec that the running code belongs to. A context variable, so that it
#: is right for every task of an event loop, and in the threads of asyncio.to_thread. A thread
#: of the user's own has none.
current: ContextVar[Any] = ContextVar("erlang_request", default=None)

_node: Any = None


def connect(node: Any) -> None:
    """Makes `node` the node client of this process; None where there is none any more."""
    global _node
    _node = node


def node() -> Any:
    """The node client of this process.

    Raises RuntimeError outside of a worker, and in a process that a worker has forked.
    """
    if _node is None:
        raise RuntimeError("this process is no worker of an Erlang node")
    return _node
