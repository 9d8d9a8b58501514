"""What types of the user's may have for Erlang."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class SupportsErlang(Protocol):
    """A type that says how its values go to Erlang.

    Nothing has to inherit from it: any type with the method has it.
    """

    def __erlang__(self) -> Any:
        """What goes in place of the value; it is converted in its turn."""


SupportsErlang.__module__ = "erlang"
