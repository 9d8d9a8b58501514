"""Compiles code that came as text, so that tracebacks and the inspect module show its lines."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections import deque
from types import CodeType

#: Pieces of code of one kind whose source is kept. A larger number costs memory in a worker
#: that runs ever new code; a smaller one leaves older functions without their lines.
KEPT = 1024

_numbers = itertools.count(1)
_names: dict[str, deque[str]] = {}


def compile_source(code: str, kind: str, mode: str) -> CodeType:
    """Compiles a piece of code under a file name of its own, such as ``<exec 3>``.

    It inherits none of this module's `from __future__` imports.
    """
    if "asyncio" in code:
        # It is a name in `__main__`, but few workers need it, and it takes long to import.
        sys.modules["__main__"].__dict__.setdefault("asyncio", importlib.import_module("asyncio"))
    import linecache  # It takes long, too, and workers that get no code do without.

    name = f"<{kind} {next(_numbers)}>"
    names = _names.setdefault(kind, deque())
    names.append(name)
    if len(names) > KEPT:
        linecache.cache.pop(names.popleft(), None)
    # Without a time of modification, linecache does not ask for such a file.
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    return compile(code, name, mode, dont_inherit=True)
