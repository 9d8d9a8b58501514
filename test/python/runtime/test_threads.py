"""Threads of the program's own, whatever user code does to `threading`."""

from __future__ import annotations

import threading

import pytest

from erlang_port.runtime.threads import start_thread
from port import PATIENCE, eventually


def test_a_thread_has_its_name_and_leaves_nothing_behind() -> None:
    names: list[str] = []
    may_end = threading.Lock()
    may_end.acquire()

    def work() -> None:
        names.append(threading.current_thread().name)
        may_end.acquire(timeout=PATIENCE)

    start_thread(work, "one of ours")
    eventually(lambda: names == ["one of ours"])
    assert any(thread.name == "one of ours" for thread in threading.enumerate())
    may_end.release()
    eventually(lambda: all(thread.name != "one of ours" for thread in threading.enumerate()))


def test_it_starts_where_threads_have_been_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_starts(*_args: object) -> None:
        raise AssertionError("this starts something else")

    monkeypatch.setattr(threading.Thread, "start", none_starts)
    # Which of them there is depends on the version of Python.
    for name in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, name, none_starts, raising=False)
    done = []
    start_thread(lambda: done.append(True), "one of ours")
    eventually(lambda: done == [True])
