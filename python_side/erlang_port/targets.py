"""From names and code to something that can be called."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from erlang_port import etf, frames


class NotAllowed(Exception):
    """The pool option `allow` does not name this."""


class Targets:
    """Finds what a request names, within what the pool allows."""

    def __init__(self, allow: Any = "all") -> None:
        self._modules: set[str] | None = None
        self._functions: set[tuple[str, str]] = set()
        if allow != "all":
            self._modules = {item for item in allow if isinstance(item, str)}
            self._functions = {item for item in allow if isinstance(item, tuple)}

    def allows_code(self) -> bool:
        """Whether `exec` and `eval` may run."""
        return self._modules is None

    def function(self, module: str, name: str) -> Callable[..., Any]:
        """The function, class or method `module.name`; both may have dots."""
        if self._modules is not None:
            self._check(module, name)
        found: Any = sys.modules.get(module)
        if found is None:
            found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found  # type: ignore[no-any-return]

    def _check(self, module: str, name: str) -> None:
        if (module, name) in self._functions:
            return
        if self._modules is None or module not in self._modules:
            raise NotAllowed
        # A module that is allowed as a whole is allowed for what it defines: neither
        # private names nor what it imported.
        if any(part.startswith("_") for part in name.split(".")) or "." in name:
            raise NotAllowed
        found = getattr(importlib.import_module(module), name, None)
        if getattr(found, "__module__", None) != module:
            raise NotAllowed

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

    def bind(self, frame: bytes, offset: int) -> Callable[[], Any]:
        """What a request asks for, with its arguments, ready to be called."""
        target = frames.read_target(frame, offset)
        binaries = "bytes" if target.flags & frames.FLAG_BYTES else "str"
        args, end = etf.decode_prefix(frame, target.arguments, binaries)
        kwargs = etf.decode(frame, end, binaries)
        if target.kind == frames.EXPRESSION:
            return functools.partial(self.expression, target.first, _names(kwargs))
        function = self.function(target.first, target.second)
        if kwargs:
            return functools.partial(function, *args, **_names(kwargs))
        return functools.partial(function, *args)


def _names(kwargs: dict[Any, Any]) -> dict[str, Any]:
    return {str(k, "utf-8") if isinstance(k, bytes) else str(k): v for k, v in kwargs.items()}


@functools.lru_cache(maxsize=512)
def _compiled(code: str) -> Any:
    return compile(code.strip(), "<eval>", "eval")
