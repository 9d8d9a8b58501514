"""`erlang.Ref`, which a handle is in a worker that does not have its object."""

from __future__ import annotations

from collections.abc import Callable

from erlang_port.etf.frozen import Frozen, set_once
from erlang_port.etf.opaque import Pid
from erlang_port.etf.terms import Atom
from erlang_port.hints import Any, Final

#: A handle is {py_handle, {Keeper, Worker, Id}} in Erlang, see py_handle.erl.
TAG: Final = "py_handle"


class Ref(Frozen):
    """A handle of an object that another worker has; it goes back as the handle that it is.

    In the worker that has the object, a handle is the object itself.
    """

    __slots__ = ("identity", "keeper", "worker")
    keeper: Pid
    worker: Pid
    identity: bytes

    def __init__(self, keeper: Pid, worker: Pid, identity: bytes) -> None:
        set_once(self, "keeper", keeper)
        set_once(self, "worker", worker)
        set_once(self, "identity", identity)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __erlang__(self) -> Any:
        """Goes back as the handle that it is."""
        return Atom(TAG), (self.keeper, self.worker, self.identity)

    def __reduce__(self) -> tuple[type[Ref], tuple[Pid, Pid, bytes]]:
        return Ref, (self.keeper, self.worker, self.identity)

    def __repr__(self) -> str:
        return f"<erlang.Ref {self.identity.decode()} of {self.worker!r}>"


_find: Callable[[Ref], Any] | None = None


def connect(find: Callable[[Ref], Any] | None) -> None:
    """What finds the object of a handle from now on; None where there is no worker."""
    global _find
    _find = find


def arrived(keeper: Pid, worker: Pid, identity: bytes) -> Any:
    """What {py_handle, {Keeper, Worker, Id}} is here."""
    reference = Ref(keeper, worker, identity)
    return reference if _find is None else _find(reference)
