"""Erlang for the Python code that a node runs.

`send` a message, `call` a function that was registered with `py:register_function`, ask for
the running `stream`; and the types that Erlang's terms have here. A name that is not in
`__all__` stands for the registered function of that name: ``erlang.price(7)`` and
``from erlang import price`` are ``erlang.call("price", 7)``.

Outside of a worker everything can be imported, and what needs a node raises RuntimeError.
"""

from __future__ import annotations

from erlang.api import Function, acall, call, drain, send, whereis
from erlang.request import Stream, cancelled, stream
from erlang_port.errors import Cancelled, ErlangError
from erlang_port.etf.conversions import register_encoder
from erlang_port.etf.terms import (
    Atom,
    Bitstring,
    FrozenDict,
    FrozenList,
    Fun,
    ImproperList,
    MapKey,
    Pid,
    Port,
    Reference,
)

__all__ = (
    "Atom",
    "Bitstring",
    "Cancelled",
    "ErlangError",
    "FrozenDict",
    "FrozenList",
    "Fun",
    "Function",
    "ImproperList",
    "MapKey",
    "Pid",
    "Port",
    "Reference",
    "Stream",
    "acall",
    "call",
    "cancelled",
    "drain",
    "register_encoder",
    "send",
    "stream",
    "whereis",
)


def __getattr__(name: str) -> Function:
    """The registered function of that name, whether or not there is one by now."""
    if name.startswith("_"):
        raise AttributeError(f"module 'erlang' has no attribute {name!r}")
    return Function(name)


def __dir__() -> list[str]:
    return sorted(__all__)
