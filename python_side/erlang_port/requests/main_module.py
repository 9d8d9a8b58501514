"""The module `__main__` of a worker, in which the code of `py:exec` and `preload` runs."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

from erlang_port.current import context_of, share_context
from erlang_port.errors import NotAllowed
from erlang_port.requests.source import compile_source


class MainModule:
    """`__main__`; expressions find their names there, too."""

    def __init__(self, is_code_allowed: bool) -> None:
        self._is_code_allowed = is_code_allowed
        self._module = types.ModuleType("__main__")

    def execute(self, code: str) -> None:
        """Runs the code of `py:exec`.

        Raises erlang_port.errors.NotAllowed, and whatever the code raises.
        """
        if not self._is_code_allowed:
            raise NotAllowed
        self._run(code, "exec")

    def open(
        self, preload: list[str], journal: list[str], print_error: Callable[[BaseException], None]
    ) -> None:
        """Makes `__main__` and runs what the pool wants every worker to have run."""
        self._module.__dict__["__builtins__"] = __builtins__
        sys.modules["__main__"] = self._module
        for item in preload:
            if all(part.isidentifier() for part in item.split(".")):
                __import__(item)
            else:
                self._run(item, "preload")
        share_context()
        for code in journal:
            try:
                context_of(None).run(self.execute, code)
            except BaseException as error:
                print_error(error)

    def _run(self, code: str, kind: str) -> None:
        exec(compile_source(code, kind, "exec"), self._module.__dict__)
