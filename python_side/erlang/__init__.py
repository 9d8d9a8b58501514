"""Erlang for the Python code that a node runs.

`send` a message, `call` a function that was registered with `py:register_function`, ask for
the running `stream`, make a generator `from_callback`; and the types that Erlang's terms have
here. A name that is not in `__all__` stands for the registered function of that name:
``erlang.price(7)`` and ``from erlang import price`` are ``erlang.call("price", 7)``.

Outside of a worker everything can be imported, and what needs a node raises RuntimeError.
"""

from __future__ import annotations

import sys as _sys

from erlang._callbacks import afrom_callback, from_callback
from erlang.api import Function, acall, call, drain, send, whereis
from erlang.api import MissingFunctions as _MissingFunctions
from erlang.api import is_registered as _is_registered
from erlang.request import Stream, cancelled, metadata, stream
from erlang_port.errors import Cancelled, ErlangError
from erlang_port.etf.conversions import register_encoder
from erlang_port.etf.handles import Ref
from erlang_port.etf.incoming import Channel
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
from erlang_port.hints import TYPE_CHECKING
from erlang_port.hints import Any as _Any

if TYPE_CHECKING:
    from erlang._protocols import SupportsErlang
del TYPE_CHECKING

__all__ = (
    "Atom",
    "Bitstring",
    "Cancelled",
    "Channel",
    "ErlangError",
    "FrozenDict",
    "FrozenList",
    "Fun",
    "Function",
    "ImproperList",
    "MapKey",
    "Pid",
    "Port",
    "Ref",
    "Reference",
    "Stream",
    "SupportsErlang",
    "acall",
    "afrom_callback",
    "call",
    "cancelled",
    "drain",
    "from_callback",
    "metadata",
    "register_encoder",
    "send",
    "stream",
    "whereis",
)

# As user code knows them, in messages, reprs and pickles.
for _name in __all__:
    if _name in globals():
        globals()[_name].__module__ = "erlang"


def __getattr__(name: str) -> _Any:
    """The registered function of that name."""
    if name == "SupportsErlang":
        from erlang._protocols import SupportsErlang  # For type hints: it needs `typing`.

        return SupportsErlang
    if name.startswith("_"):
        raise AttributeError(f"module 'erlang' has no attribute {name!r}")
    if name == "testing":
        raise AttributeError("erlang.testing is a module: import erlang.testing first")
    if not _is_registered(name):
        raise AttributeError(_MissingFunctions.message(name))
    return Function(name)


_sys.meta_path.append(_MissingFunctions)


def __dir__() -> list[str]:
    return sorted(__all__)
