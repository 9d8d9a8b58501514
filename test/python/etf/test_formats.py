"""Values as JSON and MessagePack."""

from __future__ import annotations

import json
import math
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders import PID, nested
from erlang_port.etf import formats
from erlang_port.etf.encoder import encode_json, encode_msgpack
from erlang_port.etf.terms import Atom, FrozenList, Fun, ImproperList, MapKey, Reference
from strategies import Color, Own, Record, values


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
