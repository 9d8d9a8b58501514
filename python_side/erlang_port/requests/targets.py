"""From names and code to something that can be called."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType

from erlang_port.errors import NotAllowed
from erlang_port.etf import decoder
from erlang_port.etf.arguments import arguments
from erlang_port.hints import Any
from erlang_port.requests.source import compile_source
from erlang_port.wire import frames

#: What a module defines, by `def`, `class` or in C: no objects that can be called, and no methods
#: that are bound to one.
_DEFINITIONS = (FunctionType, BuiltinFunctionType, type)

#: What is named, and what binaries and atoms in its arguments become.
_Known = tuple[frames.Target, str, str]


class Targets:
    """Finds what a request names, within what the pool allows."""

    def __init__(self, allow: Any = "all", find_object: Callable[[str], Any] | None = None) -> None:
        #: The object of a handle.
        self._find_object = find_object
        self._modules: set[str] | None = None
        self._functions: set[tuple[str, str]] = set()
        self._targets: dict[bytes, _Known] = {}
        #: Modules whose import has ended.
        self._imported: set[str] = set()
        if allow != "all":
            self._modules = {item for item in allow if isinstance(item, str)}
            self._functions = {item for item in allow if isinstance(item, tuple)}
            # For `py:version`, which tells nothing that `py:info` does not.
            self._functions.add(("platform", "python_version"))

    def allows_code(self) -> bool:
        """Whether `exec` and `eval` may run."""
        return self._modules is None

    def function(self, module: str, name: str) -> Callable[..., Any]:
        """The function, class or method `module.name`; both may have dots."""
        found: Any
        if self._modules is not None and (module, name) not in self._functions:
            found = self._defined_by(module, name)
        else:
            found = sys.modules.get(module) if module in self._imported else None
            if found is None:
                found = self._module(module)
            if "." not in name:
                found = getattr(found, name)
            else:
                for part in name.split("."):
                    found = getattr(found, part)
        if not callable(found):
            raise TypeError(f"'{module}.{name}' is not callable: it is a {type(found).__name__!r}")
        return found  # type: ignore[no-any-return]

    def method(self, identity: str, name: str) -> Callable[..., Any]:
        """The method `name`, which may have dots, of the object of a handle.

        Where the pool says what is allowed, by the name of a class that the object is of.
        """
        assert self._find_object is not None
        found = self._find_object(identity)
        kind = type(found)
        if self._modules is not None and not any(
            (base.__module__, f"{base.__qualname__}.{name}") in self._functions
            for base in kind.__mro__
        ):
            raise NotAllowed
        for part in name.split("."):
            found = getattr(found, part)
        if not callable(found):
            raise TypeError(
                f"'{name}' of a {kind.__name__!r} is not callable: it is a {type(found).__name__!r}"
            )
        return found  # type: ignore[no-any-return]

    def _defined_by(self, module: str, name: str) -> Any:
        """What a module that is allowed as a whole defines itself.

        Neither private names, nor what it imported, nor attributes of what it defines: those
        have to be allowed by name.
        """
        if self._modules is None or module not in self._modules:
            raise NotAllowed
        if name.startswith("_") or "." in name:
            raise NotAllowed
        # Not by getattr: a module may make attributes as they are asked for.
        whole = self._module(module)
        found = vars(whole).get(name)
        # By the module's own name: `os.path` is a name for another one.
        if not isinstance(found, _DEFINITIONS) or found.__module__ != whole.__name__:
            raise NotAllowed
        return found

    def _module(self, name: str) -> Any:
        """The module, whole: `sys.modules` holds one while another thread imports it, too."""
        found = importlib.import_module(name)
        self._imported.add(name)
        return found

    def expression(self, code: str, local: dict[str, Any]) -> Any:
        """The value of an expression in `__main__`, with local variables."""
        if self._modules is not None:
            raise NotAllowed
        namespace = sys.modules["__main__"].__dict__
        if local:
            # Not as the locals of eval(): generator expressions and lambdas inside
            # the code look names up in its globals (Language Reference, 4.2.2).
            namespace = {**namespace, **local}
        return eval(_compiled(code), namespace)

    def bind(
        self, frame: bytes, offset: int, names: bytes
    ) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        """What a request asks for: a function, its arguments, its keyword arguments.

        `names` is what `frames.names_of` returns.
        """
        # Most requests are for what was asked for before: their names need no decoding.
        target, binaries, atoms = self._targets.get(names) or self._remember(frame, offset, names)
        start = offset + len(names)
        extras = None
        if target.flags >= frames.FLAG_METADATA:
            extras = frames.read_extras(target.flags, frame, start)
            start = extras.end
        args, end = arguments(frame, start, binaries, atoms)
        kwargs: dict[str, Any] = {}
        if frame[end:] != _NO_KWARGS:
            kwargs = _names(decoder.decode(frame, end, binaries, atoms))
        function: Callable[..., Any]
        if target.kind == frames.FUNCTION:
            function = self.function(target.first, target.second)
        elif target.kind == frames.METHOD:
            function = self.method(target.first, target.second)
        else:
            function, args, kwargs = self.expression, [target.first, kwargs], {}
        if extras is not None:
            function = profiled_if(function, extras.profile)
        return function, args, kwargs

    def is_async(self, frame: bytes, offset: int) -> bool:
        """Whether a request is known to name an async function; runs no code of the user's."""
        from inspect import getattr_static  # Which takes long, and few workers need it.

        target = frames.read_target(frame, offset)
        if target.kind == frames.EXPRESSION:
            return False
        found: Any = sys.modules.get(target.first)
        if target.kind == frames.METHOD and self._find_object is not None:
            try:
                found = type(self._find_object(target.first))
            except ReferenceError:
                return False
        for part in target.second.split("."):
            found = getattr_static(found, part, None)
            if isinstance(found, (staticmethod, classmethod)):
                found = found.__func__
        return isinstance(found, FunctionType) and bool(found.__code__.co_flags & _ASYNC)

    def _remember(self, frame: bytes, offset: int, names: bytes) -> _Known:
        target = frames.read_target(frame, offset)
        known = (
            target,
            "bytes" if target.flags & frames.FLAG_BYTES else "str",
            "str" if target.flags & frames.FLAG_ATOMS_AS_STR else "atom",
        )
        # One for each object of a method would leave no room for others.
        is_method = target.kind == frames.METHOD
        if not is_method and len(names) <= _LONG_TARGET and len(self._targets) < _MAX_TARGETS:
            self._targets[names] = known
        return known


#: CO_COROUTINE and CO_ASYNC_GENERATOR of the module `inspect`.
_ASYNC = 0x80 | 0x200

#: `#{}`, what most requests have for keyword arguments.
_NO_KWARGS = b"\x83t\0\0\0\0"

#: Requests that are remembered, and how long their names may be. More cost memory, at
#: most 256 KiB as it is; fewer cost a microsecond for each request past them.
_MAX_TARGETS = 1024
_LONG_TARGET = 256


def profiled_if(function: Callable[..., Any], path: str) -> Callable[..., Any]:
    """The function, which writes its profile into a file if there is one."""
    if not path:
        return function
    from erlang_port.requests.profile import profiled  # Seldom needed.

    return profiled(function, path)


def _names(kwargs: dict[Any, Any]) -> dict[str, Any]:
    return {str(k, "utf-8") if isinstance(k, bytes) else str(k): v for k, v in kwargs.items()}


@functools.lru_cache(maxsize=512)
def _compiled(code: str) -> Any:
    return compile_source(code.strip(), "eval", "eval")
