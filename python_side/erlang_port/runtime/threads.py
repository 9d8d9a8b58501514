"""Starts threads that stay what they are when user code replaces the functions of `threading`.

gevent does so, for one: then threading.Thread starts no thread. Starting one this way also
takes less time, since nobody waits until it runs.
"""

from __future__ import annotations

import threading
from _thread import start_new_thread
from collections.abc import Callable
from threading import get_ident


def start_thread(function: Callable[[], object], name: str) -> None:
    """Calls a function on a new thread, which nobody waits for at the end of the process.

    Raises RuntimeError or MemoryError where there can be no other thread.
    """

    def run() -> None:
        threading.current_thread().name = name
        try:
            function()
        finally:
            # Before Python 3.12, threading.enumerate() would show it for ever.
            threading._active.pop(get_ident(), None)  # type: ignore[attr-defined]

    start_new_thread(run, ())
