"""Frames of threads are read whatever the garbage collector has to do."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from threading import Event, Thread

import pytest

from erlang_port.runtime.safe_points import frame_of, frames_of_threads, set_if_at

#: What the collector finds needs the lock under which CPython 3.11 makes frames; a dictionary that
#: was freed just before is taken again, so that a frame is what lets it run.
_PROGRAM = """
import gc, threading
from erlang_port.runtime.safe_points import frame_of, set_if_at
this = threading.get_ident()
for _ in range(20):
    gc.disable()
    for _ in range(1000):
        cycle = [threading.local()]
        cycle.append(cycle)
    freed = [{} for _ in range(50)]
    del cycle
    del freed
    gc.enable()
    {read}
print(gc.get_threshold(), gc.isenabled())
"""


@pytest.mark.parametrize(
    "read",
    ["frame_of(this)", "set_if_at(this, None, 0, ValueError)"],
)
def test_frames_are_read_while_the_collector_is_due(read: str) -> None:
    program = _PROGRAM.replace("{read}", read)
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "(700, 10, 10) True\n" if sys.version_info < (3, 12) else run.stdout


class _Kept:
    pass


@pytest.mark.parametrize("read", ["frame_of", "frames_of_threads", "set_if_at"])
def test_what_a_thread_has_is_freed_when_it_ends(read: str) -> None:
    has, go_on = Event(), Event()
    found: list[weakref.ref[_Kept]] = []

    def keep() -> None:
        kept = _Kept()
        found.append(weakref.ref(kept))
        has.set()
        go_on.wait()

    thread = Thread(target=keep)
    thread.start()
    has.wait()
    assert thread.ident is not None
    gc.disable()
    try:
        if read == "frame_of":
            assert frame_of(thread.ident) is not None
        elif read == "frames_of_threads":
            assert thread.ident in frames_of_threads()
        else:
            assert not set_if_at(thread.ident, sys._getframe(), 0, ValueError)
        go_on.set()
        thread.join()
        assert found[0]() is None
    finally:
        gc.enable()
