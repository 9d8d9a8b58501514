"""From names to functions."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erlang_port.requests.targets import Targets


def test_module_that_another_thread_still_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks for a function of such a module gets it when the import has ended."""
    monkeypatch.syspath_prepend(tmp_path)
    signals = types.ModuleType("slow_import_signals")
    begun, go_on = threading.Event(), threading.Event()
    signals.__dict__.update(begun=begun, go_on=go_on)
    monkeypatch.setitem(sys.modules, "slow_import_signals", signals)
    (tmp_path / "slow_import.py").write_text(
        "from slow_import_signals import begun, go_on\n"
        "begun.set()\n"
        "assert go_on.wait(30)\n"
        "def late():\n"
        "    return 'found'\n"
    )
    targets = Targets()
    found: list[Any] = []

    def ask() -> None:
        try:
            function: Callable[[], str] = targets.function("slow_import", "late")
            found.append(function())
        except Exception as error:
            found.append(error)

    first, second = threading.Thread(target=ask), threading.Thread(target=ask)
    first.start()
    assert begun.wait(30)
    second.start()
    # It waits for the other's import; one that does not has failed by then.
    second.join(0.2)
    go_on.set()
    first.join(30)
    second.join(30)
    monkeypatch.delitem(sys.modules, "slow_import")
    assert found == ["found", "found"]
