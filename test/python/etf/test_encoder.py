"""Values to bytes, with erlpack and without, held up to a real node."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam import Beam
from erlang_port.etf import encoder, erlpack_input, formats
from erlang_port.etf.decoder import MAX_DEPTH, decode
from erlang_port.etf.encoder import Encoder, encode_json, encode_msgpack, has_erlpack, ways
from erlang_port.etf.terms import (
    Atom,
    Bitstring,
    FrozenList,
    Fun,
    ImproperList,
    MapKey,
    Pid,
    Reference,
)
from strategies import (
    EXAMPLES,
    Color,
    Own,
    Record,
    atoms,
    meaning,
    numbers,
    opaques,
    same_key_twice,
    terms,
    texts,
    values,
)

WAYS = ways()
PID = Pid(b"Xw\x03a@b" + bytes(range(12)))


@pytest.fixture(scope="module")
def beam():
    node = Beam()
    yield node
    node.close()


@pytest.fixture(params=WAYS)
def made(request):
    return Encoder(way=request.param)


ENCODERS = [Encoder(way=way) for way in WAYS]


def back(encoded):
    return decode(encoded, binaries="bytes")


class TestThroughTheNode:
    @given(values)
    def test_python_to_node_to_python(self, beam, value):
        for made in ENCODERS:
            if same_key_twice(value):
                with pytest.raises(ValueError, match="same term"):
                    made.encode(value)
                continue
            encoded = made.encode(value)
            returned = beam.round_trip(encoded)
            assert returned is not None, encoded
            assert meaning(back(returned)) == meaning(value)
            # The node reads both ways of writing as one term.
            assert returned == beam.round_trip(ENCODERS[-1].encode(value))

    @given(terms)
    def test_terms_come_back_from_the_node_as_they_were(self, beam, value):
        if same_key_twice(value):
            return
        for made in ENCODERS:
            first = back(beam.round_trip(made.encode(value)))
            second = back(beam.round_trip(made.encode(first)))
            assert repr(second) == repr(first)

    @pytest.mark.parametrize("way", range(5))
    def test_node_to_python_to_node(self, beam, way):
        """Random terms, in each way that a node may encode them."""
        for seed in range(max(3, EXAMPLES // 50)):
            for number, (encoded, came_back) in enumerate(beam.terms(seed, 200, way)):
                made = ENCODERS[number % len(ENCODERS)]
                assert came_back(made.encode(back(encoded))), (seed, number, encoded)

    @pytest.mark.parametrize("none", ["none", "nil", "undefined"])
    def test_none_is_the_atom_that_the_option_says(self, beam, made, none):
        made = Encoder(none, made.way)
        value = [None, {"a": None, "b": 1.5}, (None, {1, None}), PID]
        for one in (value, value[:3], None):
            encoded = made.encode(one)
            assert encoded.count(b"\x83" + none.encode()) == 0
            assert beam.round_trip(encoded) is not None
        assert made.encode(None)[3:] == none.encode()
        assert made.encode(value).count(none.encode()) == 4
        assert made.encode_run([None, None], 0, 999)[0].count(none.encode()) == 2

    @pytest.mark.parametrize(
        "value",
        [
            [7] * 65_535,
            [7] * 65_536,
            list(range(100_000)),
            {i: str(i) for i in range(50_000)},
            "é" * 1_000_000,
            bytes(10_000_000),
            1 << 4_000_000,
            -(1 << 4_000_000),
            (1 << (8 * 524_280)) - 1,
            tuple(range(300)),
            [{"a": None}] * 1000,
            [1.5] * 1000,
            Atom("\U0001f600" * 255),
            Bitstring(b"\xff" * 10_000, 79_999),
            {i / 2: i for i in range(100)},
        ],
        ids=lambda value: f"{type(value).__name__}",
    )
    def test_large_values(self, beam, made, value):
        assert meaning(back(beam.round_trip(made.encode(value)))) == meaning(value)

    def test_the_largest_integer_is_the_largest(self, beam, made):
        with pytest.raises(ValueError, match="larger than Erlang's largest"):
            made.encode([1 << (8 * 524_280)])


@given(terms)
def test_erlpack_and_the_exact_writer_agree(value):
    """Where erlpack's bytes are used at all, they are read as the exact writer's are."""
    written = []
    for made in ENCODERS:
        try:
            written.append(repr(back(made.encode(value))))
        except ValueError as error:
            written.append(str(error))
    assert len(set(written)) == 1


EDGES = [sign * ((1 << bits) + d) for bits in range(66) for d in (-1, 0, 1) for sign in (1, -1)]


def test_integers_at_each_power_of_two(made, beam):
    assert back(beam.round_trip(made.encode(EDGES))) == EDGES
    for edge in EDGES:
        assert back(made.encode(edge)) == edge


HOSTILE = {
    "lone surrogate": ("\ud800", UnicodeEncodeError, "surrogates"),
    "lone surrogate as a key": ({"\ud800": 1}, UnicodeEncodeError, "surrogates"),
    "no such type": (object(), TypeError, "cannot send a value of type 'builtins.object'"),
    "same keys": ({"a": 1, b"a": 2}, ValueError, "same term in Erlang: 'a' and b'a'"),
    "same keys with None": ({None: 1, Atom("none"): 2}, ValueError, "same term"),
    "same keys with NaN": ({math.nan: 1, float("nan"): 2}, ValueError, "same term"),
    "same keys inside": ({(1, "a"): 1, (1, b"a"): 2}, ValueError, "same term"),
    "same keys by conversion": ({Color.RED: 1, "red": 2}, ValueError, "same term"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_sent_is_one_clear_error(made, name):
    value, error, words = HOSTILE[name]
    for whole in (value, [value], {"k": (value, None)}, Record(1, [value]), [PID, value]):
        with pytest.raises(error, match=words):
            made.encode(whole)
    assert made.encode([1]) == b"\x83l\0\0\0\1a\1j"


def test_cycles(made):
    one: list[Any] = [0] * 100_000
    one.append(one)
    two: dict[str, Any] = {}
    two["deep"] = [two]
    three = Record(1, None)
    three.value = [three]
    four: list[Any] = []
    four += [four, four]
    for cycle in (one, two, three, four):
        with pytest.raises(ValueError, match=r"contains itself|more than 1000 deep"):
            made.encode(cycle)
        assert made.encode_run([1, cycle], 0, 999)[1] == 1


def nested(depth, wrap):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: [v],
        lambda v: (v,),
        lambda v: {"a": v},
        lambda v: [None, v],
        lambda v: ImproperList([v], 1),
        Own,
        lambda v: Record(None, v),
    ],
)
def test_depth(made, beam, wrap):
    for depth in (99, 100, 101, 255, 256, 257, MAX_DEPTH):
        encoded = made.encode(nested(depth, wrap))
        assert beam.round_trip(encoded) is not None
        if wrap is not Own:
            back(encoded)
    with pytest.raises(ValueError, match="more than 1000 deep"):
        made.encode(nested(MAX_DEPTH + 1, wrap))
    with pytest.raises(ValueError, match="more than 1000 deep"):
        made.encode(nested(100_000, wrap))


def test_keys_nest_too(made):
    assert back(made.encode({nested(50, lambda v: FrozenList([v])): 1}))
    with pytest.raises(ValueError, match="deep"):
        made.encode({nested(5_000, lambda v: FrozenList([v])): 1})


def test_encoding_deep_inside_the_callers_own_recursion(made):
    """With little left of Python's recursion limit, values are still sent."""

    def descend(depth):
        if depth:
            return descend(depth - 1)
        return made.encode([[[{"a": [None]}]]])

    limit = sys.getrecursionlimit()
    used = len(__import__("inspect").stack())
    for left in (30, 40, 60, 120):
        assert descend(limit - used - left)


def test_parts_make_up_the_term(made):
    large = b"x" * 100_000
    for value in (
        1,
        "a",
        b"a",
        large,
        large.decode(),
        bytearray(large),
        memoryview(large),
        [large],
    ):
        buffers = made.buffers(value)
        assert b"\x83" + b"".join(buffers) == made.encode(value)
    assert any(part is large for part in made.buffers(large))


def test_what_may_change_is_copied(made):
    buffer = bytearray(100_000)
    buffers = made.buffers(buffer)
    buffer[:] = b"\xff" * 100_000
    assert b"".join(buffers)[5:] == bytes(100_000)


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


def test_encoders_of_many_threads(beam):
    results = {}

    def work(number):
        made = Encoder()
        results[number] = [made.encode([number, i, {"a": None}]) for i in range(200)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, encoded in results.items():
        assert [back(e)[:2] for e in encoded] == [[number, i] for i in range(200)]


def test_none_must_be_an_atom_that_means_none():
    with pytest.raises(ValueError, match="none must be one of"):
        Encoder("null")


def test_encoding_leaves_nothing_behind(made):
    value = [{"a": None, "b": [1.5, {2}]}] * 100
    made.encode(value)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(50):
        made.encode(value)
        made.encode_run(value, 0, 10_000)
        with pytest.raises(TypeError):
            made.encode([object()])
    gc.collect()
    assert len(gc.get_objects()) < before + 200


class TestMsgpack:
    @pytest.fixture(autouse=True)
    def _msgpack(self):
        self.msgpack = pytest.importorskip("msgpack")

    def test_what_becomes_of_each(self):
        value = {
            "none": None,
            "numbers": [1, 1.5, True, -math.inf],
            "bytes": (b"\xff", bytearray(b"a"), memoryview(b"b")),
            "text": [Atom("atom"), "é", Color.RED],
            "sets": [{1}, FrozenList([2])],
            "own": Own(Record(1, None)),
            3: {"nan": math.nan},
        }
        data = self.msgpack.unpackb(encode_msgpack(value), strict_map_key=False)
        assert math.isnan(data[3].pop("nan"))
        assert data == {
            "none": None,
            "numbers": [1, 1.5, True, -math.inf],
            "bytes": [b"\xff", b"a", b"b"],
            "text": ["atom", "é", "red"],
            "sets": [[1], [2]],
            "own": {"name": 1, "value": None},
            3: {},
        }

    def test_conversions_win_over_the_base(self):
        class Named(str):
            __slots__ = ()

            def __erlang__(self):
                return ("named", 1)

        assert self.msgpack.unpackb(encode_msgpack([Named("x")])) == [["named", 1]]

    @given(values)
    def test_packs_or_is_a_clear_error(self, value):
        try:
            data = encode_msgpack(value)
        except (TypeError, OverflowError, ValueError):
            return
        assert type(data) is bytes

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (PID, TypeError),
            ([Fun(b"qw\x05listsw\x03mapa\x02")], TypeError),
            (ImproperList([1], 2), TypeError),
            (object(), TypeError),
            (1 << 64, OverflowError),
            ("\ud800", UnicodeEncodeError),
            (nested(2_000, lambda v: [v]), ValueError),
            (nested(2_000, Own), ValueError),
        ],
        ids=["pid", "fun", "improper", "object", "integer", "surrogate", "deep", "deep own"],
    )
    def test_what_has_no_place(self, value, error):
        with pytest.raises(error):
            encode_msgpack(value)

    def test_that_is_not_installed_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "msgpack", None)
        with pytest.raises(ImportError, match="'msgpack', which is not installed"):
            encode_msgpack(1)


class TestJson:
    def test_what_becomes_of_each(self):
        value = {
            "none": None,
            "numbers": [1, 1.5, True, math.nan, math.inf, 1 << 99],
            "bytes": (b"a", bytearray(b"a"), memoryview("é".encode())),
            "text": [Atom("atom"), "é\n", Color.RED],
            "sets": [{1}, FrozenList([2])],
            "own": Own(Record(1, None)),
            3: 1,
            None: 2,
            True: 3,
            Atom("key"): 4,
            b"raw": 5,
        }
        text = encode_json(value)
        assert b" " not in text
        assert json.loads(text) == {
            "none": None,
            "numbers": [1, 1.5, True, None, None, 1 << 99],
            "bytes": ["a", "a", "é"],
            "text": ["atom", "é\n", "red"],
            "sets": [[1], [2]],
            "own": {"name": 1, "value": None},
            "3": 1,
            "null": 2,
            "true": 3,
            "key": 4,
            "raw": 5,
        }

    @pytest.mark.parametrize("limit", [640, 4_300, 0])
    def test_integers_of_any_size(self, limit):
        default = sys.get_int_max_str_digits()
        numbers = [
            sign * (10**size + 7) for size in (639, 640, 4_299, 4_300, 9_999) for sign in (1, -1)
        ]
        value = [*numbers, {"k": (numbers[-1], Own(numbers[-2])), numbers[-1]: "text", 5: {7}}]
        sys.set_int_max_str_digits(limit)
        try:
            text = encode_json(value).decode()
            assert sys.get_int_max_str_digits() == limit
        finally:
            sys.set_int_max_str_digits(default)
        digits = [
            f"{sign}1{'7':0>{size}}"
            for size in (639, 640, 4_299, 4_300, 9_999)
            for sign in ("", "-")
        ]
        ends = f'{{"k":[{digits[-1]},{digits[-2]}],"{digits[-1]}":"text","5":[7]}}'
        assert text == f"[{','.join(digits)},{ends}]"

    @given(st.integers(0, 40_000), st.integers(-1, 1), st.booleans())
    def test_digits_of_a_long_integer(self, bits, near, negative):
        number = ((1 << bits) + near) * (-1 if negative else 1)
        default = sys.get_int_max_str_digits()
        try:
            sys.set_int_max_str_digits(0)
            expected = str(number)
        finally:
            sys.set_int_max_str_digits(default)
        assert formats._digits(number) == expected

    @pytest.mark.parametrize("text", ["\ud800", "a\ud800", '"\ud800', '"\ud800"', "\ud800b"])
    def test_a_long_integer_beside_text_that_is_none(self, text):
        for value in ([10**5_000, text], {"k": text, "n": 10**5_000}, {text: 10**5_000}):
            with pytest.raises(UnicodeEncodeError):
                encode_json(value)

    def test_the_largest_integer_takes_no_minute(self):
        # By str() it takes some twenty seconds.
        started = time.perf_counter()
        assert len(encode_json(1 << 4_000_000)) == 1_204_120
        assert time.perf_counter() - started < 5

    def test_map_keys_that_were_wrapped_are_unwrapped(self):
        assert encode_json({MapKey(b"a\1", 1): MapKey(b"a\2", 2)}) == b'{"1":2}'

    @given(values)
    def test_is_json_or_a_clear_error(self, value):
        try:
            text = encode_json(value)
        except (TypeError, ValueError):
            return
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    @pytest.mark.parametrize(
        ("value", "error"),
        [
            (PID, TypeError),
            ([Reference(b"ew\x03a@b\0\0\0\4\2")], TypeError),
            (object(), TypeError),
            ({(1, 2): 3}, TypeError),
            (b"\xff", UnicodeDecodeError),
            ("\ud800", UnicodeEncodeError),
            (nested(300, lambda v: [v]), ValueError),
            (nested(2_000, Own), ValueError),
        ],
        ids=["pid", "reference", "object", "key", "bytes", "surrogate", "deep", "deep own"],
    )
    def test_what_has_no_place(self, value, error):
        with pytest.raises(error):
            encode_json(value)


@given(opaques)
def test_opaque_terms_go_back_as_they_came(term):
    for made in ENCODERS:
        assert made.encode(term) == b"\x83" + term.raw


@pytest.mark.skipif(
    not has_erlpack() or "ERLANG_PYTHON_NO_ERLPACK" in os.environ, reason="runs without already"
)
@pytest.mark.timeout(600)
def test_all_of_it_again_without_erlpack():
    """The codec's tests, in an interpreter that cannot import erlpack."""
    here = Path(__file__).parents[1]
    files = [f"etf/test_{name}.py" for name in ("terms", "decoder", "conversions", "encoder")]
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
