"""Values to bytes: what cannot be sent, how deep it may be, what is copied, what stays."""

from __future__ import annotations

import gc
import math
import sys
import threading
from typing import Any

import pytest

from encoders import PID, back, nested
from erlang_port.etf.decoder import MAX_DEPTH
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.terms import Atom, FrozenList, ImproperList
from strategies import Color, Own, Record

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
