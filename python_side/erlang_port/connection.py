"""The one node of this process.

A worker is one process, and threads that user code starts have nothing else to know their
worker by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlang_port.node import Node

_node: Node | None = None


def connect(node: Node | None) -> None:
    """Makes `node` the one of this process; None where there is none any more."""
    global _node
    _node = node


def node() -> Node:
    """The node that this process works for.

    Raises RuntimeError outside of a worker, and in a process that a worker has forked.
    """
    if _node is None:
        raise RuntimeError("this process is no worker of an Erlang node")
    return _node
