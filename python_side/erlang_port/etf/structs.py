"""Structs of Elixir's among the maps that come.

A struct is a map with the key `__struct__`, an atom, whose value is the name of a module. Those
that `meanings` knows become values of Python's own; any other is the map that it is.
"""

from __future__ import annotations

from erlang_port.etf.terms import Atom
from erlang_port.hints import Any, Final

__all__ = ("STRUCT", "STRUCT_AS_STR", "of_struct")

Struct = dict[Any, Any]

STRUCT: Final = "__struct__"


class _StructKey(str):
    """The atom `__struct__` where atoms arrive as `str`; no binary becomes one."""

    __slots__ = ()


STRUCT_AS_STR: Final = _StructKey(STRUCT)


def of_struct(value: Struct) -> Any:
    """A map that has a key `__struct__` as what it means."""
    key = next(key for key in value if key == STRUCT)
    if type(key) is not Atom and key is not STRUCT_AS_STR:
        return value  # A binary is data, whatever it says.
    from erlang_port.etf.meanings import MEANINGS  # What it needs takes long to import.

    meaning = MEANINGS.get(value[key]) if isinstance(value[key], str) else None
    if meaning is not None:
        try:
            return meaning(value)
        except (ArithmeticError, LookupError, TypeError, ValueError):
            pass  # Such as a year that Python does not have: it is a map.
    if key is STRUCT_AS_STR:
        return {STRUCT if name is key else name: field for name, field in value.items()}
    return value
