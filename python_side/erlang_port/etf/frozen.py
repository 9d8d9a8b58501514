"""What cannot be changed: the base of the term classes, and lists and maps in map keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from erlang_port.hints import Any, ClassVar, NoReturn

__all__ = ("Frozen", "FrozenDict", "FrozenList", "MapKey", "refuse_change", "set_once")


def refuse_change(self: object, name: str, value: object = None) -> NoReturn:
    raise AttributeError(f"{type(self).__name__} is immutable: cannot change {name!r}")


class Frozen:
    """No attribute can be set from outside, and no subclass made."""

    __slots__ = ()
    _sealed: ClassVar[bool] = False

    __setattr__ = refuse_change
    __delattr__ = refuse_change

    def __init_subclass__(cls, *, final: bool = True) -> None:
        if cls.__mro__[1]._sealed:  # type: ignore[attr-defined]
            raise TypeError(f"erlang.{cls.__mro__[1].__name__} cannot be subclassed")
        cls._sealed = final


set_once = object.__setattr__


class MapKey(Frozen):
    """A map key that Python would hold equal to another key of the same map, as 1.0 is to 1.

    Terms that differ in Erlang may be equal in Python: ``1``, ``1.0`` and ``true``, ``a`` and
    ``<<"a">>``, ``none`` and ``nil``. Where a map has several of them as keys, all of those arrive
    wrapped, so that no entry is lost. A wrapped key goes back unchanged; it equals only one of the
    same bytes. `value` is what it would have been alone.
    """

    __slots__ = ("raw", "value")
    raw: bytes
    value: Any

    def __init__(self, raw: bytes, value: Any) -> None:
        set_once(self, "raw", bytes(raw))
        set_once(self, "value", value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not MapKey:
            return NotImplemented
        return self.raw == other.raw

    def __lt__(self, other: object) -> bool:
        if type(other) is not MapKey:
            return NotImplemented
        return self.raw < other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"MapKey({self.value!r})"

    def __reduce__(self) -> tuple[type[MapKey], tuple[bytes, Any]]:
        return MapKey, (self.raw, self.value)


def _refuse_mutation(self: object, *_args: object, **_kwargs: object) -> NoReturn:
    raise TypeError(f"erlang.{type(self).__name__} is immutable")


class FrozenList(list[Any]):
    """A list in a map key: a list that cannot be changed, so that it can be hashed.

    Equals the list of the same elements.
    """

    __slots__ = ("_hash",)
    _hash: int

    def __init__(self, items: Iterable[Any] = ()) -> None:
        list.__init__(self, items)
        # Computed here, while the elements' own are at hand, so that no depth of nesting makes
        # hash() recurse.
        set_once(self, "_hash", hash(("erlang.FrozenList", *self)))

    __setattr__ = refuse_change
    __delattr__ = refuse_change
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_mutation
    append = extend = insert = pop = remove = _refuse_mutation
    clear = reverse = sort = _refuse_mutation

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenList({list.__repr__(self)})"

    def __reduce__(self) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return FrozenList, (list(self),)

    def __reduce_ex__(self, protocol: object) -> tuple[type[FrozenList], tuple[list[Any]]]:
        return self.__reduce__()


class FrozenDict(dict[Any, Any]):
    """A map in a map key: a dict that cannot be changed, so that it can be hashed.

    Equals the dict of the same entries.
    """

    __slots__ = ("_hash",)
    _hash: int

    def __init__(self, entries: Mapping[Any, Any] | Iterable[tuple[Any, Any]] = ()) -> None:
        dict.__init__(self, entries)
        set_once(self, "_hash", hash(("erlang.FrozenDict", frozenset(self.items()))))

    __setattr__ = refuse_change
    __delattr__ = refuse_change
    __setitem__ = __delitem__ = __ior__ = _refuse_mutation
    clear = pop = popitem = setdefault = update = _refuse_mutation

    def __hash__(self) -> int:  # type: ignore[override]
        return self._hash

    def __repr__(self) -> str:
        return f"FrozenDict({dict.__repr__(self)})"

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[Any, Any]]]:
        return FrozenDict, (dict(self),)

    def __reduce_ex__(self, protocol: object) -> tuple[type[FrozenDict], tuple[dict[Any, Any]]]:
        return self.__reduce__()
