"""Finding files that change."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erlang_port.runtime.reload import Reload


class Clock:
    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, _seconds: float, function: Callable[[], None]) -> None:
        self.due.append(function)

    def tick(self) -> None:
        for function in [self.due.pop() for _ in tuple(self.due)]:
            function()


def test_a_change_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "module_that_changes.py"
    path.write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    clock: Any = Clock()
    changed: list[str] = []
    Reload(clock, [str(tmp_path)], changed.append).start()
    __import__(path.stem)
    clock.tick()
    os.utime(path, (1, 1))
    path.rename(tmp_path / "away")
    clock.tick()
    assert changed == []
    (tmp_path / "away").rename(path)
    clock.tick()
    clock.tick()
    assert changed == [str(path)]
    del sys.modules[path.stem]


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    clock: Any = Clock()
    changed: list[str] = []
    Reload(clock, [str(tmp_path)], changed.append).start()
    clock.tick()
    assert changed == []
    Reload(clock, [], changed.append).start()
    assert len(clock.due) == 1
