"""The port program as a process: descriptors, the handshake, the end."""

from __future__ import annotations

import os
import platform
import signal
import struct
import sys
from pathlib import Path

import pytest

from erlang_port.etf import decoder
from erlang_port.etf.terms import Atom
from erlang_port.wire import frames
from port import PREFIX, Worker, credit, eventually, expression, frame, stream, target


def test_the_first_frame_says_who_is_there() -> None:
    with Worker() as worker:
        kind, address, payload = worker.expect(frames.READY)
        assert (kind, address) == (65, b"")
        info = decoder.decode(payload, 0)
        assert info["python"] == platform.python_version()
        assert info["writer"] in ("accelerator", "erlpack", "python")
        assert info["protocol"] == 1


def test_without_arguments_it_speaks_on_its_standard_input_and_output() -> None:
    with Worker(on_standard=True) as worker:
        worker.expect(frames.READY)
        assert worker.call(expression("6 * 7")) == ("ok", 42)
        worker.call(target("sources", "noise"))
        assert worker.call(expression("1")) == ("ok", 1)


def test_a_stream_byte_by_byte() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        for i in range(0, len(start := stream(b"me", target("builtins", "iter", [7]))), 1):
            worker.write(start[i : i + 1])
        assert worker.read() == (66, b"me", PREFIX + b"h\x02w\x04dataa\x07")
        assert worker.read() == (67, b"me", PREFIX + b"w\x04done")


def test_a_window_is_kept_and_credit_opens_it() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(stream(b"s", target("itertools", "count"), window=2))
        assert [worker.event(b"s") for _ in range(2)] == [("data", 0), ("data", 1)]
        # Nothing of the stream comes before the answer to what was asked after it.
        assert worker.call(expression("0")) == ("ok", 0)
        worker.write(credit(b"s", 1, 0))
        assert worker.event(b"s") == ("data", 2)
        worker.write(frame(frames.CANCEL, b"s"))
        assert worker.event(b"s") == ("error", "cancelled")


def test_a_cancel_of_what_does_not_run_is_answered() -> None:
    """The node need not wait for the end of it, and replace the worker if that does not come."""
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(frame(frames.CANCEL, b"never"))
        assert worker.expect(frames.NOT_RUNNING) == (frames.NOT_RUNNING, b"never", b"")
        # The same if its result is an object that stays here.
        worker.write(
            frame(frames.CALL, b"ended", target("builtins", "list", flags=frames.FLAG_HANDLE))
        )
        assert worker.result(b"ended")[0] == "ok"
        worker.write(frame(frames.CANCEL, b"ended"))
        assert worker.expect(frames.NOT_RUNNING) == (frames.NOT_RUNNING, b"ended", b"")
        assert worker.call(expression("1")) == ("ok", 1)


def test_demand_is_kept() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(stream(b"s", target("itertools", "count"), demand=0))
        assert worker.call(expression("0")) == ("ok", 0)
        worker.write(credit(b"s", 0, 0, 2))
        assert [worker.event(b"s") for _ in range(2)] == [("data", 0), ("data", 1)]
        assert worker.call(expression("0")) == ("ok", 0)


def test_a_worker_says_that_a_value_waits_for_the_window() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        values = [b"a" * 200, b"b" * 600]
        worker.write(stream(b"s", expression(repr(values)), window_bytes=800))
        assert worker.event(b"s") == ("data", "a" * 200)
        assert worker.event(b"s") == "waiting"
        worker.write(credit(b"s", 1, 300))
        assert worker.event(b"s") == ("data", "b" * 600)
        assert worker.event(b"s") == "done"


def test_frames_of_every_length_arrive_whole() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        for size in (0, 1, 60_000, 65_535, 65_536, 65_537, 200_000, 3_000_000):
            text = "x" * size
            assert worker.call(target("builtins", "str", text)) == ("ok", text)
        # Many at once, with a large one among them.
        calls = [frame(frames.CALL, b"%d" % i, expression(str(i))) for i in range(500)]
        calls.insert(250, frame(frames.CALL, b"L", target("builtins", "len", "x" * 500_000)))
        worker.write(b"".join(calls))
        found = dict(worker.expect(frames.REPLY)[1:] for _ in calls)
        assert decoder.decode(found.pop(b"L"), 0) == ("ok", 500_000)
        assert {int(to): decoder.decode(reply, 0) for to, reply in found.items()} == {
            i: ("ok", i) for i in range(500)
        }


def test_what_user_code_writes_never_touches_the_protocol() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        # Standard input is empty for user code, at once.
        assert worker.call(target("sources", "noise")) == ("ok", "")
        assert worker.call(expression("__import__('sys').stdin.read()")) == ("ok", "")
        assert worker.execute("import os; os.close(0); os.close(1); os.close(2)") == ("ok", None)
        assert worker.call(expression("1")) == ("ok", 1)
        # What is opened now gets the free numbers, and is not the protocol either.
        code = "import os; a = os.open(os.devnull, os.O_RDWR); os.write(a, b'x' * 100)"
        assert worker.execute(code)[0] == "ok"
        assert worker.call(expression("2")) == ("ok", 2)


@pytest.mark.parametrize("how", ["leave_a_child", "leave_a_careless_child", "fork_and_write"])
def test_what_user_code_leaves_behind_does_not_hold_the_port(how: str) -> None:
    with Worker(children=Atom("leave")) as worker:
        worker.expect(frames.READY)
        child = worker.call(target("sources", how))[1]
        try:
            worker.hang_up()
            assert worker.wait() == 0
            # The end of the output comes only when nobody holds it open any more.
            while worker.read() is not None:
                pass
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("source", ["closing", "async_closing"])
@pytest.mark.parametrize("window", [1, 1024])
def test_at_the_end_of_the_input_generators_are_closed(
    tmp_path: Path, source: str, window: int
) -> None:
    with Worker(stop_timeout=20_000) as worker:
        worker.expect(frames.READY)
        path = tmp_path / "closed"
        worker.write(stream(b"s", target("sources", source, str(path), 0.005), window=window))
        assert worker.event(b"s") == ("data", 0)
        worker.write(frame(frames.STOP))
        worker.hang_up()
        assert worker.wait() == 0
        assert path.exists()


def test_an_end_right_behind_a_frame_is_seen(tmp_path: Path) -> None:
    for attempt in range(5):
        with Worker(stop_timeout=20_000) as worker:
            worker.expect(frames.READY)
            path = tmp_path / f"closed{attempt}"
            # One write and the end: both may have come when the worker reads.
            worker.process.send_signal(signal.SIGSTOP)
            closing = target("sources", "closing", str(path), 0.001)
            worker.write(stream(b"s", closing) + frame(frames.STOP))
            worker.hang_up()
            worker.process.send_signal(signal.SIGCONT)
            assert worker.wait() == 0


def test_an_end_during_the_handshake_is_the_end() -> None:
    with Worker(ready=False) as worker:
        worker.hang_up()
        assert worker.wait() == 0


def test_a_worker_that_is_stuck_leaves_all_the_same() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(frame(frames.CALL, b"c", target("time", "sleep", 60)))
        worker.write(stream(b"s", expression("(x for x in iter(lambda: 1, 2) if False)")))
        assert worker.execute("pass") == ("ok", None)
        worker.hang_up()
        # 1 if its time was up, which the generator's thread may take from it on a busy machine.
        assert worker.wait() in (0, 1)


def test_what_never_yields_is_interrupted_at_the_end_and_cleans_up(tmp_path: Path) -> None:
    """In order, so that there is time, and `interrupt_after` is no reason for it."""
    begun, path = tmp_path / "begun", tmp_path / "closed"
    with Worker(interrupt_after=Atom("infinity"), stop_timeout=20_000) as worker:
        worker.expect(frames.READY)
        spinning = target("sources", "spinning", str(begun), str(path))
        worker.write(stream(b"s", spinning, window=1))
        assert worker.event(b"s") == ("data", 0)
        worker.write(credit(b"s", 1, 0))
        # One that is cancelled at its `yield` is closed there, and spins never.
        eventually(begun.exists)
        worker.write(frame(frames.STOP))
        worker.hang_up()
        assert worker.wait() == 0
        assert path.exists()


def test_code_that_runs_at_exit_runs(tmp_path: Path) -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        path = str(tmp_path / "left")
        worker.execute(f"import atexit; atexit.register(open, {path!r}, 'w')")
        worker.hang_up()
        assert worker.wait() == 0
        assert (tmp_path / "left").exists()


def test_the_journal_and_what_is_preloaded_run_before_it_is_ready() -> None:
    with Worker(preload=["colorsys", "x = 1"], journal=["x += 1", "1 / 0", "x += 1"]) as worker:
        worker.expect(frames.READY)
        assert worker.call(expression("x")) == ("ok", 3)
        code = "'colorsys' in __import__('sys').modules"
        assert worker.call(expression(code)) == ("ok", True)


def test_a_preload_that_fails_says_why_and_ends() -> None:
    with Worker(preload=["no_such_module_here"]) as worker:
        kind, _, why = worker.expect(frames.FAILED)
        assert (kind, worker.wait()) == (74, 1)
        assert b"no_such_module_here" in why


def test_a_first_frame_that_is_something_else_is_refused() -> None:
    with Worker(ready=False) as worker:
        worker.write(frame(frames.PING))
        assert worker.expect(frames.FAILED)[2].startswith(b"FrameError")
        assert worker.wait() == 1


def test_a_ping_is_answered_while_a_thread_is_busy() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        worker.write(stream(b"s", expression("(x for x in iter(lambda: 1, 2) if False)")))
        worker.write(frame(frames.PING))
        assert struct.unpack(">II", worker.expect(frames.PONG)[2])[1] == 1


def test_interrupts_of_a_terminal_do_not_reach_it() -> None:
    with Worker() as worker:
        worker.expect(frames.READY)
        assert os.getpgid(worker.process.pid) == worker.process.pid


def test_streams_past_the_limit_of_threads_wait_their_turn() -> None:
    with Worker(max_threads=2) as worker:
        worker.expect(frames.READY)
        names = {b"1", b"2", b"3", b"4"}
        for name in names:
            worker.write(stream(name, target("itertools", "count"), window=1))
        running = [worker.expect(frames.EVENT)[1] for _ in range(2)]
        worker.expect_counter("waiting_streams", 2)
        # One that waits ends when it is cancelled, without a turn; then another has one.
        first, second = names - set(running)
        worker.write(frame(frames.CANCEL, first))
        assert worker.event(first) == ("error", "cancelled")
        worker.write(frame(frames.CANCEL, running[0]))
        assert worker.event(running[0]) == ("error", "cancelled")
        assert worker.event(second) == ("data", 0)
        for name in (running[1], second):
            worker.write(frame(frames.CANCEL, name))
            assert worker.event(name) == ("error", "cancelled")
        worker.expect_counter("sync_streams", 0)


def test_what_takes_long_to_import_is_imported_when_it_is_needed() -> None:
    """A worker of sync code has neither asyncio nor inspect; `asyncio` is a name all the same."""
    # From Python 3.14 on, the module traceback imports inspect.
    names = ["async' 'io", "pathlib", *(["inspect"] if sys.version_info < (3, 14) else [])]
    heavy = "sorted({'" + "', '".join(names) + "'} & set(__import__('sys').modules))"
    with Worker() as worker:
        worker.expect(frames.READY)
        assert worker.call(expression(heavy)) == ("ok", [])
        assert worker.call(expression("asyncio.Future.__name__")) == ("ok", "Future")
