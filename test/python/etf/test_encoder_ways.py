"""The accelerator and erlpack, what they leave to the exact writer, and the codec without them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from encoders import ENCODERS, PID, WAYS, back
from erlang_port.etf import encoder, erlpack_input
from erlang_port.etf.encoder import Encoder, has_erlpack, ways
from erlang_port.etf.terms import Atom
from strategies import Record, same_key_twice, values


@pytest.mark.skipif("accelerator" not in WAYS, reason="the accelerator is not installed")
class TestAccelerator:
    """It writes the bytes of the exact writer, or leaves the whole value to it."""

    @given(values)
    def test_makes_the_bytes_of_the_exact_writer(self, value):
        compiled, exact = Encoder(way="accelerator"), Encoder(way="python")
        if same_key_twice(value):
            with pytest.raises(ValueError, match="same term"):
                compiled.encode(value)
            return
        expected = exact.encode(value)
        assert compiled.encode(value) == expected
        holder = compiled.holder()
        held = [holder(value), holder(1), holder([value])]
        together = compiled.encode_held(held, 1 << 40)
        whole = exact.encode([value, 1, [value]])[1:]
        assert together is None or together == (whole, 3)

    def test_takes_the_values_that_most_are_made_of(self):
        made = Encoder(way="accelerator")
        values: tuple[Any, ...] = (
            1,
            "a",
            [1.5, -1 << 62],
            {"a": None},
            {1: (b"", [])},
            [Record(1, [None])],
        )
        for value in values:
            assert made._compiled.encode(value) is not None

    def test_leaves_the_rest_to_the_exact_writer(self):
        made = Encoder(way="accelerator")
        cycle: list[Any] = []
        cycle.append(cycle)
        for value in (1 << 64, PID, {1.5: 1}, {"a": 1, b"a": 2}, cycle):
            assert made._compiled.encode([value]) is None

    def test_values_that_change_while_they_are_encoded(self):
        made = Encoder(way="accelerator")
        growing: list[Any] = []
        table: dict[Any, Any] = {}

        class Grows:
            def __erlang__(self):
                growing.append(0)
                table[len(table)] = 0
                return "grown"

        growing += [1, Grows(), 2]
        table.update({"a": 1, "b": Grows()})
        assert back(made.encode(growing)) == [1, b"grown", 2]
        assert back(made.encode(table)) == {b"a": 1, b"b": b"grown", 2: 0}

    def test_a_list_stops_past_its_limit(self):
        made = Encoder(way="accelerator")
        holder = made.holder()
        permits = [None] * 9
        holder.begin(permits, 50)
        held = [holder(["x" * 20]) for _ in range(9)]
        assert permits == []
        assert all(len(piece[0]) == 31 for piece in held)
        fitting = made.encode_held(held, 50)
        assert fitting
        assert fitting[1] == 2
        assert made.encode_held([], 50) is None
        assert made.encode_held(["\ud800"], 50) is None

    def test_another_version_is_not_used(self, monkeypatch):
        monkeypatch.setattr("erlang_port.etf.encoder._accelerator.VERSION", "0.0.0")
        assert "accelerator" not in ways()


class TestPacker:
    @pytest.fixture(autouse=True)
    def _erlpack(self):
        if not has_erlpack():
            pytest.skip("erlpack is not installed")

    def test_is_used_for_what_it_writes_right(self):
        made = Encoder(way="erlpack")
        for value in (1, "a", [1.5], {"a": None}, {(1, 2): {3}}, [Record(1, [None])], 1 << 63):
            data = erlpack_input.to_erlpack(value, Atom("none"))
            assert made._packed(data) == made.encode(value)

    def test_refuses_and_the_exact_writer_takes_over(self):
        made = Encoder(way="erlpack")
        for value in (1 << 64, -(1 << 63) - 1, Atom("中"), [1 << 99], {"a": 1 << 99}):
            assert made._packed(value) is None
            assert back(made.encode([value])) == [back(made.encode(value))]

    def test_is_not_reentered(self):
        """A finalizer that encodes while the packer works gets its bytes, and spoils none."""
        made = Encoder(way="erlpack")
        inner = []
        pack = made._pack
        assert pack

        def interrupted(value):
            first = pack(value)
            inner.append(made.encode([None, "inner"]))
            return first

        made._pack = interrupted
        assert back(made.encode(["outer"])) == [b"outer"]
        assert back(inner[0]) == [None, b"inner"]
        assert made._pack is interrupted

    def test_changes_by_another_thread_do_no_harm(self, beam):
        """A value that is changed while it is sent: some value or an error, never a bad frame."""
        shared: dict[str, Any] = {str(i): i for i in range(50)}
        numbers = list(range(50))
        rows = [shared, numbers]
        stop = threading.Event()

        def change():
            at = 0
            while not stop.is_set():
                at += 1
                shared[str(at % 70)] = [at]
                numbers.append(at)
                shared.pop(str((at + 9) % 70), None)
                del numbers[20:]

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(200):
                for made in ENCODERS:
                    with contextlib.suppress(RuntimeError):
                        assert beam.round_trip(made.encode(rows)) is not None
        finally:
            stop.set()
            thread.join()


@pytest.mark.skipif(
    not has_erlpack() or "ERLANG_PYTHON_NO_ERLPACK" in os.environ, reason="runs without already"
)
@pytest.mark.timeout(600)
def test_all_of_it_again_without_erlpack():
    """The codec's tests, in an interpreter that cannot import erlpack."""
    here = Path(__file__).parents[1]
    names = ["terms", "decoder", "conversions", "encoder", "encoder_round_trip", "encoder_runs"]
    files = [f"etf/test_{name}.py" for name in (*names, "encoder_ways", "formats")]
    program = (
        "import sys; sys.modules['erlpack'] = sys.modules['erlang_accelerator'] = None\n"
        "import pytest\n"
        f"sys.exit(pytest.main(['-q', *{[str(here / name) for name in files]}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "ERLANG_PYTHON_NO_ERLPACK": "1"},
        cwd=here.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_port_knows_whether_erlpack_is_there():
    assert encoder.has_erlpack() is ("erlpack" in WAYS)
