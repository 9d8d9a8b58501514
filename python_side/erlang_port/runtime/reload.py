"""Finds out when a file that was imported from the pool's folders changes, for development."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from erlang_port.runtime.ticker import Ticker

#: How often the files are looked up, in seconds. A larger number makes a change take effect
#: later, a smaller one costs system calls.
CHECK_SECONDS = 0.5


class Reload:
    """Calls `changed` with the path of the first file that changes, once."""

    def __init__(self, ticker: Ticker, folders: list[str], changed: Callable[[str], None]) -> None:
        self._ticker = ticker
        self._folders = tuple(os.path.join(os.path.realpath(folder), "") for folder in folders)
        self._changed = changed
        self._times: dict[str, float] = {}

    def start(self) -> None:
        """From now on."""
        if self._folders:
            self._check()

    def _check(self) -> None:
        for path in self._imported():
            time = _time(path)
            # A file that is gone is being written by an editor.
            if time and self._times.setdefault(path, time) != time:
                self._changed(path)
                return
        self._ticker.call_later(CHECK_SECONDS, self._check)

    def _imported(self) -> list[str]:
        found = []
        for module in list(sys.modules.values()):
            path = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(path, str) and os.path.realpath(path).startswith(self._folders):
                found.append(path)
        return found


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
