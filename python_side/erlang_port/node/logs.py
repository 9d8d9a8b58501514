"""Has `logging` send to the node from when it is imported; many workers never need it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType

from erlang_port.etf.encoder import Encoder
from erlang_port.hints import TYPE_CHECKING, Any
from erlang_port.node.lossy_channel import LossyChannel

if TYPE_CHECKING:
    from erlang_port.node.log_handler import LogHandler

#: logging.DEBUG: requests that fail are logged then.
_DEBUG = 10


class Logs:
    """What log records go through. It is the first finder of `sys.meta_path` until there is any."""

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder
        self._channel: LossyChannel | None = None
        self._level = 0
        self._handler: LogHandler | None = None

    def open(self, channel: LossyChannel, level: int) -> None:
        """From now on records are sent, of this level and above."""
        self._channel = channel
        if "logging" in sys.modules:
            self._level = level
            self._install()
        else:
            sys.meta_path.insert(0, self)
            self.set_level(level)

    def disconnect(self) -> None:
        """In a forked child, and when the node is gone: records go to stderr."""
        self._channel = None
        if self._handler is not None:
            self._handler.disconnect()

    def set_level(self, level: int) -> None:
        """The node wants records from this level on, in Python's numbers."""
        self._level = level
        if self._handler is not None:
            self._handler.set_level(level)
        elif level <= _DEBUG:
            import logging  # noqa: F401

    def note(self, count: int) -> list[Any]:
        """Takes the place of records that were dropped."""
        return self._handler.note(count) if self._handler is not None else []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The module as the others find it, but for what is done when it has been run."""
        if name != "logging":
            return None
        for finder in sys.meta_path:
            find: Any = None if finder is self else getattr(finder, "find_spec", None)
            spec: Any = find and find(name, path, target)
            if spec is not None:
                spec.loader = _Loader(spec.loader, self._install)
                return spec  # type: ignore[no-any-return]
        return None

    def _install(self) -> None:
        # In a thread that has imported `logging`, or is about to end that: no other does it.
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self._channel is None or self._handler is not None:
            return
        from erlang_port.node.log_handler import LogHandler

        handler = LogHandler(self._encoder)
        handler.open(self._channel, self._level)
        self._handler = handler
        # Another may have come from the node meanwhile.
        handler.set_level(self._level)


class _Loader:
    """Runs a module by its own loader, and then a function."""

    def __init__(self, loader: Any, loaded: Callable[[], None]) -> None:
        self._loader = loader
        self._loaded = loaded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Makes the module."""
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: Any) -> None:
        """Runs it, as if it had been found without this."""
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._loaded()
