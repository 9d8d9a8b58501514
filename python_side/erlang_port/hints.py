"""The names of `typing` that type hints need, without the module where nobody reads them.

It takes 7 ms to import with what it needs, a sixth of a worker's start. Type checkers see the
real names.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Final, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar
else:
    from collections import namedtuple

    Any = ClassVar = Final = NoReturn = Protocol = TypeAlias = object

    def TypeVar(*_arguments, **_keywords):  # noqa: N802
        """Only type checkers ask what it stands for."""

    class _Named(type):
        def __new__(cls, name, bases, namespace):
            if not bases:
                return type.__new__(cls, name, bases, namespace)
            made = namedtuple(name, namespace["__annotations__"])
            made.__module__, made.__doc__ = namespace["__module__"], namespace["__doc__"]
            return made

    class NamedTuple(metaclass=_Named):
        """A class of this base is a `namedtuple` of its annotations; it has no methods."""


__all__ = (
    "TYPE_CHECKING",
    "Any",
    "ClassVar",
    "Final",
    "NamedTuple",
    "NoReturn",
    "Protocol",
    "TypeAlias",
    "TypeVar",
)
