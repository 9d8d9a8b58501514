"""Tests of code that uses the module `erlang`, without a node.

With pytest there is a fixture, `erlang_node`, an `ErlangNode`; nothing has to be imported. With
unittest, or elsewhere, start one: ``with ErlangNode() as node: ...``.

`pid`, `reference`, `port` and `fun` make terms that only a node can make.
"""

from erlang.testing._make import fun, pid, port, reference
from erlang.testing._node import ErlangNode

__all__ = ("ErlangNode", "fun", "pid", "port", "reference")

for _thing in (ErlangNode, fun, pid, port, reference):
    _thing.__module__ = "erlang.testing"
del _thing
