"""Runs of values and rows in one piece, as batches have them."""

from __future__ import annotations

import math
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import ENCODERS, PID, WAYS, back
from erlang_port.etf.decoder import decode
from erlang_port.etf.encoder import Encoder, has_erlpack
from erlang_port.etf.terms import Atom
from strategies import atoms, meaning, numbers, texts, values


class TestRun:
    @given(st.lists(values, max_size=12), st.integers(0, 3), st.integers(0, 400))
    def test_says_how_far_it_came(self, run, start, limit):
        for made in ENCODERS:
            encoded, count, error = made.encode_run(run, start, limit)
            taken = run[start : start + count]
            assert meaning(back(b"\x83" + encoded)) == meaning(taken)
            if error is not None:
                with pytest.raises(type(error)):
                    made.encode(run[start + count])
            elif start + count < len(run):
                assert count >= 1
            # Without its last value it keeps to the limit.
            if count > 1:
                assert sum(len(made.encode(value)) - 1 for value in taken[:-1]) <= limit

    @given(numbers | st.lists(texts) | st.lists(st.none() | st.floats() | st.booleans() | texts))
    def test_runs_of_scalars(self, run):
        for made in ENCODERS:
            encoded, count, error = made.encode_run(run, 0, 1 << 20)
            assert (count, error) == (len(run), None)
            assert meaning(back(b"\x83" + encoded)) == meaning(run)

    def test_of_all_the_kinds_in_one(self, made, beam):
        run = [1, 1.5, None, True, "a", b"b", Atom("c"), [1], {"a": None}, PID, math.nan, 1 << 99]
        encoded, count, error = made.encode_run(run, 0, 1 << 20)
        assert (count, error) == (len(run), None)
        assert meaning(back(beam.round_trip(b"\x83" + encoded))) == meaning(run)

    @pytest.mark.parametrize("run", [[], (), [1]])
    def test_with_nothing_left(self, made, run):
        assert made.encode_run(run, len(run), 100) == (b"j", 0, None)

    @pytest.mark.parametrize("bad", [object(), "\ud800"])
    @pytest.mark.parametrize("good", [1, "a", {"a": 1}, None])
    def test_stops_before_what_cannot_be_encoded(self, made, good, bad):
        for before in (0, 1, 50):
            run = [good] * before + [bad] + [good] * 3
            encoded, count, error = made.encode_run(run, 0, 10_000)
            assert count == before
            assert isinstance(error, (TypeError, UnicodeEncodeError))
            assert back(b"\x83" + encoded) == back(made.encode([good] * before))
            assert made.encode_run(run, before + 1, 10_000)[1:] == (3, None)

    def test_of_a_large_string_repeated_is_never_built(self, made):
        huge = "x" * (20 << 20)
        encoded, count, error = made.encode_run([huge] * 10_000, 0, 1 << 20)
        assert (count, error) == (1, None)
        assert len(encoded) < 21 << 20

    cells = st.none() | st.floats() | st.integers() | texts | atoms
    rows = (
        st.lists(st.dictionaries(texts, cells, max_size=4), max_size=12)
        | st.lists(st.lists(cells, max_size=4).map(tuple), max_size=12)
        | st.lists(st.tuples(st.integers(), texts, st.floats(), cells), max_size=12)
        | st.lists(st.tuples(st.integers(), texts, st.booleans()), max_size=12)
    )

    @given(rows, st.integers(0, 3000))
    def test_of_rows(self, run, limit):
        for made in ENCODERS:
            start = 0
            while start < len(run):
                encoded, count, error = made.encode_run(run, start, limit)
                taken = run[start : start + count]
                assert error is None
                assert count >= 1
                assert meaning(back(b"\x83" + encoded)) == meaning(taken)
                if count > 1:
                    assert sum(len(made.encode(value)) - 1 for value in taken[:-1]) <= limit
                start += count

    @pytest.mark.parametrize("odd", [math.nan, math.inf, None, 1 << 99, b"\xff", [1], object])
    @pytest.mark.parametrize("place", [0, 7])
    @pytest.mark.parametrize("as_row", [tuple, lambda cells: dict(zip("abc", cells, strict=True))])
    def test_of_rows_with_one_odd_cell(self, made, odd, place, as_row):
        run = [as_row((i, "text", 0.5)) for i in range(8)]
        run[place] = as_row((1, "text", odd))
        encoded, count, error = made.encode_run(run, 0, 1 << 20)
        if odd is object:
            assert (count, type(error)) == (place, TypeError)
        else:
            assert (count, error) == (8, None)
            assert meaning(back(b"\x83" + encoded)) == meaning(run)

    def test_of_rows_of_different_lengths(self, made):
        run = [(1, 0.5), (1, 0.5, "a"), (), (math.nan,), (2,)]
        encoded, count, error = made.encode_run(run, 0, 1 << 20)
        assert (count, error) == (5, None)
        assert meaning(back(b"\x83" + encoded)) == meaning(run)

    def test_of_one_large_row_over_and_over(self, made):
        row = dict.fromkeys(map(str, range(100_000)), 1)
        tracemalloc.start()
        try:
            assert made.encode_run([row] * 1000, 0, 1 << 20)[1:] == (1, None)
            assert tracemalloc.get_traced_memory()[1] < 100 << 20
        finally:
            tracemalloc.stop()

    def test_of_integers_keeps_to_a_small_limit(self, made):
        for limit in (0, 1, 100, 1000):
            encoded, count, error = made.encode_run(list(range(256)), 0, limit)
            assert error is None
            assert 1 <= count <= 256
            assert len(encoded) <= limit + 16


#: Cells whose bytes look like those of None or of a float that is not finite, too.
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-300, 300),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    st.sampled_from(["s\3nil", "F\x7f", b"F\xff\xf8", "nil", "\ud800", float("nan"), 1e308]),
    st.text(max_size=4),
    st.binary(max_size=4),
)


@pytest.mark.parametrize("none", ["none", "nil", "undefined"])
@given(rows=st.lists(st.lists(CELLS, max_size=5).map(tuple), min_size=1, max_size=8))
def test_rows_together_are_what_the_exact_writer_makes_of_them(none, rows):
    made, exact = Encoder(none, WAYS[-2 if has_erlpack() else -1]), Encoder(none, "python")
    rows = [{str(at): v for at, v in enumerate(row)} if len(row) == 3 else row for row in rows]
    together = made.encode_rows(rows, 1 << 20)
    try:
        expected = meaning(decode(exact.encode(rows), 0, "bytes"))
    except UnicodeEncodeError:
        assert together is None
        return
    if together is not None:
        assert meaning(decode(b"\x83" + together, 0, "bytes")) == expected
    cells = [*rows[0].values()] if type(rows[0]) is dict else [*rows[0]]
    for value in (tuple(cells), cells, {str(at): cell for at, cell in enumerate(cells)}):
        one = meaning(decode(made.encode(value), 0, "bytes"))
        assert one == meaning(decode(exact.encode(value), 0, "bytes"))


def test_rows_of_plain_cells_go_together():
    made = Encoder(way="erlpack" if has_erlpack() else "python")
    if has_erlpack():
        for cells in ((1, "a", 1.5, True), (1, None), ("b", math.nan, -math.inf), (-2.5,), ()):
            named = {str(at): cell for at, cell in enumerate(cells)}
            for rows in ([cells] * 3, [named] * 3, [cells, named]):
                together = made.encode_rows(rows, 1 << 20)
                assert together is not None
                assert back(b"\x83" + together) == back(Encoder(way="python").encode(rows))
    assert made.encode_rows([("x" * 100,)] * 3, 200) is None


@pytest.mark.skipif(not has_erlpack(), reason="erlpack is not installed")
@pytest.mark.parametrize(
    "cells",
    [
        ("s\3nil", 1),
        (None, "s\3nil"),
        (b"F\x7f\xf8" + bytes(6), 1.5),
        (b"F\xff\xf0" + bytes(6), math.inf),
        (b"F\x7f\xf8", math.nan),
        (struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0],),
        (struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\1")[0], b"F\x7f\xf8" + bytes(6)),
    ],
)
def test_rows_that_hold_bytes_of_none_or_of_no_number_go_the_longer_way(cells):
    made, exact = Encoder(way="erlpack"), Encoder(way="python")
    assert made.encode_rows([cells], 1 << 20) is None
    for value in (cells, dict(enumerate(cells)), {str(at): v for at, v in enumerate(cells)}):
        assert back(made.encode(value)) == back(exact.encode(value))
