"""Terms that only a node can make, made without one."""

from __future__ import annotations

import itertools
import struct

from erlang_port.etf.opaque import Fun, Pid, Port, Reference
from erlang_port.etf.writer import atom_bytes

#: Where a node that is not distributed says that its terms are from.
NODE = "nonode@nohost"

_numbers = itertools.count(100)


def pid(number: int | None = None, serial: int = 0, node: str = NODE) -> Pid:
    """A process identifier, like no other where no number is given."""
    number = next(_numbers) if number is None else number
    return Pid(b"X" + atom_bytes(node) + struct.pack(">III", number, serial, 0))


def reference(*words: int, node: str = NODE) -> Reference:
    """A reference of one to five numbers, like no other where none is given."""
    words = words or (next(_numbers), 0, 0)
    head = b"Z" + struct.pack(">H", len(words)) + atom_bytes(node)
    return Reference(head + struct.pack(f">I{len(words)}I", 0, *words))


def port(number: int | None = None, node: str = NODE) -> Port:
    """A port identifier, like no other where no number is given."""
    number = next(_numbers) if number is None else number
    return Port(b"x" + atom_bytes(node) + struct.pack(">QI", number, 0))


def fun(module: str, function: str, arity: int) -> Fun:
    """The fun ``fun module:function/arity``."""
    return Fun(b"q" + atom_bytes(module) + atom_bytes(function) + bytes((97, arity)))
