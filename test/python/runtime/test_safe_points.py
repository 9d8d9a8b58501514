"""Frames of threads are read whatever the garbage collector has to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
