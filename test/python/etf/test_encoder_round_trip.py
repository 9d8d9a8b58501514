"""Values to a real node and back, with erlpack and without."""

from __future__ import annotations

import pytest
from hypothesis import given

from encoders import ENCODERS, PID, back
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.terms import Atom, Bitstring
from strategies import EXAMPLES, meaning, opaques, same_key_twice, terms, values


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


@given(opaques)
def test_opaque_terms_go_back_as_they_came(term):
    for made in ENCODERS:
        assert made.encode(term) == b"\x83" + term.raw
