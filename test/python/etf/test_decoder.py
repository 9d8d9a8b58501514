"""Reading the External Term Format."""

from __future__ import annotations

import contextlib
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.etf import decoder, terms
from erlang_port.etf.decoder import MAX_DEPTH, DecodeError, decode, decode_prefix
from erlang_port.etf.terms import Atom, FrozenList, MapKey
from strategies import EXAMPLES, meaning
from strategies import terms as any_terms

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "terms.txt"


def nested(depth):
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


NAMES = {name: getattr(terms, name) for name in terms.__all__} | {"nested": nested}
VECTORS = [
    line.split("\t")[:3]
    for line in GOLDEN.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
ENCODINGS = [bytes.fromhex(encoding) for _name, encoding, _python in VECTORS]


def shape(value):
    """The value with its types spelled out, and maps in an order: 1, 1.0 and True differ."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return (kind, *sorted(((shape(k), shape(v)) for k, v in value.items()), key=repr))
    if isinstance(value, (list, tuple)):
        parts = [kind]
        # No map: Python 3.12 allows fewer calls in each other where C code makes them.
        for item in value:
            parts.append(shape(item))
        return tuple(parts)
    return (kind, repr(value))


def same(one, other):
    """Equal, and of equal types all through."""
    return shape(one) == shape(other) and one == other


@pytest.mark.parametrize(("name", "encoding", "python"), VECTORS, ids=[v[0] for v in VECTORS])
class TestGolden:
    @pytest.fixture(autouse=True)
    def _needs(self, name):
        if name == "msgpack":
            pytest.importorskip("msgpack")

    def test_is_read(self, name, encoding, python):
        expected = eval(python, dict(NAMES))
        for kind in (bytes, bytearray, lambda data: memoryview(data)):
            assert same(decode(kind(bytes.fromhex(encoding))), expected)

    def test_is_read_as_a_long_view(self, name, encoding, python, monkeypatch):
        # Inputs that are long and no bytes are not copied but read through a view.
        monkeypatch.setattr(decoder, "_COPY_BELOW", 0)
        expected = eval(python, dict(NAMES))
        assert same(decode(bytearray.fromhex(encoding)), expected)

    def test_goes_back_with_the_same_meaning(self, name, encoding, python):
        value = decode(bytes.fromhex(encoding), binaries="bytes")
        again = decode(decoder.encode(value), binaries="bytes")
        assert same(again, value)

    def test_is_read_from_the_middle(self, name, encoding, python):
        data = bytes.fromhex(encoding)
        value, end = decode_prefix(b"12" + data + b"\x83a\1", 2)
        assert end == len(data) + 2
        assert same(value, eval(python, dict(NAMES)))

    def test_every_prefix_is_truncated(self, name, encoding, python):
        data = bytes.fromhex(encoding)
        ends = (
            range(len(data)) if len(data) < 500 else random.Random(1).sample(range(len(data)), 99)
        )
        for end in ends:
            with pytest.raises(DecodeError) as raised:
                decode(data[:end])
            assert 0 <= raised.value.offset <= end

    def test_what_is_left_over_is_an_error(self, name, encoding, python):
        data = bytes.fromhex(encoding)
        with pytest.raises(DecodeError, match="left over") as raised:
            decode(data + b"a")
        assert raised.value.offset == len(data)


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "truncated", 0),
        (b"\x83", "truncated", 0),
        (b"\x82a\1", "version byte is 130, not 131", 0),
        (b"\x83\0", "unknown tag 0", 1),
        (b"\x83h\2a\1\xff", "unknown tag 255", 5),
        (b"\x83Ra", "unknown tag 82", 1),
        (b"\x83yabcdefgh", "local format", 1),
        (b"\x83l\xff\xff\xff\xffa\1j", "truncated", 1),
        (b"\x83i\xff\xff\xff\xffa\1j", "truncated", 1),
        (b"\x83t\xff\xff\xff\xffa\1j", "truncated", 1),
        (b"\x83m\0\0\0\2a", "truncated", 1),
        (b"\x83k\0\2a", "truncated", 1),
        (b"\x83F" + struct.pack(">d", float("nan")), "not finite", 1),
        (b"\x83F" + struct.pack(">d", float("-inf")), "not finite", 1),
        (b"\x83c" + b"nan".ljust(31, b"\0"), "malformed float", 1),
        (b"\x83c" + b"1_0.0".ljust(31, b"\0"), "malformed float", 1),
        (b"\x83c" + b"9.0e999".ljust(31, b"\0"), "not finite", 1),
        (b"\x83w\1\xff", "malformed atom", 1),
        (b"\x83v\1\0" + b"a" * 256, "malformed atom", 1),
        (b"\x83M\0\0\0\1\0\xff", "malformed bit string", 1),
        (b"\x83M\0\0\0\1\x08\xff", "malformed bit string", 1),
        (b"\x83M\0\0\0\0\3", "malformed bit string", 1),
        (b"\x83Xa\1", "tag 97 in place of an atom", 2),
        (b"\x83Z\0\6w\0" + bytes(28), "malformed reference", 1),
        (b"\x83qw\1aw\1ab\0\0\0\1", "malformed fun", 1),
        (b"\x83p\0\0\0\x05a", "malformed fun", 1),
        (b"\x83t\0\0\0\2a\1a\1a\1a\2", "same key twice", 14),
        (b"\x83P\0\0\0\2abc", "compressed term cannot be read", 1),
        (b"\x83P\0\0\0\3" + zlib.compress(b"a\1"), "does not hold 3 bytes", 1),
        (b"\x83P\0\0\0\1" + zlib.compress(b"a\1"), "does not hold 1 bytes", 1),
        (b"\x83P\0\0\0\2" + zlib.compress(b"a\1")[:-1], "does not hold 2 bytes", 1),
        (b"\x83P\0\0\0\3" + zlib.compress(b"a\1\0"), "left over after the term at offset 2", 1),
        (b"\x83P\0\0\0\1" + zlib.compress(b"\0"), "unknown tag 0 at offset 0", 1),
    ],
)
def test_what_is_no_term_is_an_error_with_its_offset(data, message, offset):
    with pytest.raises(DecodeError, match=message) as raised:
        decode(data)
    assert raised.value.offset == offset
    assert isinstance(raised.value, ValueError)


def test_a_compressed_term_may_be_followed_by_others():
    data = b"\x83P\0\0\0\2" + zlib.compress(b"a\1")
    assert decode_prefix(data + b"\x83a\2") == (1, len(data))


def test_bytes_by_option():
    data = b"\x83l\0\0\0\2m\0\0\0\1ah\2w\5bytesm\0\0\0\1bj"
    assert decode(data) == ["a", b"b"]
    assert decode(data, binaries="bytes") == [b"a", b"b"]
    with pytest.raises(ValueError, match="binaries must be"):
        decode(data, binaries="latin1")


def test_atoms_as_str_by_option():
    long = Atom("é" * 200)
    value = [Atom("ok"), True, None, (Atom("a"), {Atom("k"): Atom("v")}), b"x", long]
    for encoded in (
        decoder.encode(value),
        # ATOM_EXT and SMALL_ATOM_EXT, in Latin-1.
        b"\x83l\0\0\0\6d\0\2oks\4trued\0\3nilh\2s\1at\0\0\0\1s\1ks\1vm\0\0\0\1xd\0\xc8"
        + b"\xe9" * 200
        + b"j",
    ):
        assert same(decode(encoded), [*value[:4], "x", long])
        plain = ["ok", True, None, ("a", {"k": "v"}), "x", "é" * 200]
        assert same(decode(encoded, atoms="str"), plain)
        plain[4] = b"x"
        assert same(decode(encoded, binaries="bytes", atoms="str"), plain)
        squeezed = b"\x83P" + struct.pack(">I", len(encoded) - 1) + zlib.compress(encoded[1:])
        assert same(decode(squeezed, binaries="bytes", atoms="str"), plain)
    with pytest.raises(ValueError, match="atoms must be"):
        decode(b"\x83j", atoms="bytes")


def test_atoms_as_str_that_are_equal_to_another_key():
    encoded = decoder.encode({Atom("a"): 1, MapKey(b"m\0\0\0\1a", "a"): Atom("b")})
    value = decode(encoded, atoms="str")
    assert sorted((key.raw, key.value, entry) for key, entry in value.items()) == [
        (b"m\0\0\0\1a", "a", "b"),
        (b"w\1a", "a", 1),
    ]
    assert {type(part) for key, entry in value.items() for part in (key.value, entry)} == {str, int}


@pytest.mark.parametrize("length", [2, 5000])
def test_a_binary_that_is_not_utf8_says_where_and_what_to_do(length):
    bad = b"m" + struct.pack(">I", length) + b"\xff" * length
    data = b"\x83h\2a\1t\0\0\0\1m\0\0\0\4name" + bad
    with pytest.raises(UnicodeDecodeError) as raised:
        decode(data)
    said = str(raised.value)
    assert "offset 19" in said
    assert "term[1]['name']" in said
    assert "{bytes, B}" in said
    assert "binaries => bytes" in said
    assert raised.value.object == b"\xff" * length
    assert decode(data, binaries="bytes") == (1, {b"name": b"\xff" * length})


def test_msgpack_in_and_clear_errors():
    pytest.importorskip("msgpack")

    def wrapped(payload):
        return b"\x83h\2d\0\7msgpackm" + struct.pack(">I", len(payload)) + payload

    assert decode(wrapped(b"\x82\xa1a\xc0\x01\x93\x01\xc4\1\xff\xa1b")) == {
        "a": None,
        1: [1, b"\xff", "b"],
    }
    for payload in (b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa1\xff", b"\x81\x90\x01"):
        with pytest.raises(DecodeError, match="cannot be unpacked"):
            decode(wrapped(payload))


def test_msgpack_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    with pytest.raises(DecodeError, match="'msgpack', which is not installed"):
        decode(b"\x83h\2w\7msgpackm\0\0\0\1\xc0")


def test_a_msgpack_key_that_cannot_be_hashed_is_an_error():
    pytest.importorskip("msgpack")
    key = b"h\2w\7msgpackm\0\0\0\1\x90"
    same_twice = b"a\1a\1F" + struct.pack(">d", 1) + b"a\1"
    for data in (
        b"\x83t\0\0\0\1" + key + b"a\1",
        b"\x83t\0\0\0\3" + key + b"a\1" + same_twice,
        b"\x83t\0\0\0\1l\0\0\0\1" + key + b"ja\1",
        b"\x83t\0\0\0\1t\0\0\0\1a\1" + key + b"a\1",
    ):
        with pytest.raises(DecodeError, match="map key cannot be hashed"):
            decode(data)


def test_keys_that_python_holds_equal_are_all_kept():
    none, nil, true = b"w\4none", b"w\3nil", b"w\4true"
    data = b"\x83t\0\0\0\5" + none + b"a\1" + nil + b"a\2" + true + b"a\3a\1a\4a\2a\5"
    value = decode(data)
    assert value == {
        MapKey(none, None): 1,
        MapKey(nil, None): 2,
        MapKey(true, True): 3,
        MapKey(b"a\1", 1): 4,
        2: 5,
    }
    assert sorted(map(repr, value)) == [
        *("2", "MapKey(1)", "MapKey(None)", "MapKey(None)", "MapKey(True)")
    ]
    assert decoder.encode(value)[6:].count(nil) == 1


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 1_000_000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        (b"l\0\0\0\1", b"j"),
        (b"h\1", b""),
        (b"t\0\0\0\1a\1", b""),
        (b"t\0\0\0\1", b"a\1"),
        (b"t\0\0\0\1l\0\0\0\1", b"ja\1"),
        (b"l\0\0\0\1a\1", b""),
    ],
)
def test_depth(opening, closing, depth):
    data = b"\x83" + opening * depth + b"a\1" + closing * depth
    if opening.endswith(b"a\1") and opening[:1] == b"l":
        # Each list lies in the tail of the one before: one list, however long.
        assert len(decode(data).items) == depth
    elif depth > MAX_DEPTH or len(opening) == 10:
        with pytest.raises(DecodeError, match=f"more than {MAX_DEPTH} deep"):
            decode(data)
    else:
        value = decode(data)
        for _ in range(depth - 1):
            value = next(iter(value.values() if opening == b"t\0\0\0\1a\1" else value))
        assert value in ([1], (1,), {1: 1})


def test_maps_of_equal_keys_nest_too():
    inner = b"a\1"
    for _ in range(100):
        inner = b"t\0\0\0\2a\1" + inner + b"F" + struct.pack(">d", 1.0) + b"a\1"
    value = decode(b"\x83" + inner)
    for _ in range(100):
        value = value[MapKey(b"a\1", 1)]
    assert value == 1
    with pytest.raises(DecodeError, match="deep"):
        decode(b"\x83" + b"t\0\0\0\1a\1" * 990 + inner)


def _runs():
    """Lists that are read in one stroke, with what may end the stroke, at awkward places."""
    for length in (7, 8, 9, 31, 32, 33, 95, 96, 97, 255, 256, 257, 1000):
        for value in (1, 97, 98, 300, 0x62626262, -5, 1.5):
            for end in (None, "x", 2, 400, -2.5):
                for tail in (0, 1, 40):
                    yield [value] * length + ([end] + [value] * tail if end is not None else [])


@pytest.mark.parametrize("view", [False, True])
def test_runs_of_numbers(view, monkeypatch):
    monkeypatch.setattr(decoder, "_COPY_BELOW", 0)
    for values in _runs():
        data = decoder.encode(values)
        assert same(decode(bytearray(data) if view else data), values)
        assert same(decode(decoder.encode((*values, {}))), (*values, {}))
    half = dict(zip(range(0, 600, 2), range(300, 900, 2), strict=True))
    assert decode(decoder.encode(half)) == half


@pytest.mark.parametrize("tag", [b"a\1", b"b\0\0\0\1", b"F" + struct.pack(">d", 1.5)])
@pytest.mark.parametrize("cut", [1, 2, 5, 9])
def test_truncated_runs(tag, cut):
    data = b"\x83l\0\0\0\x64" + tag * 100 + b"j"
    for end in (len(data) - cut, len(data) - 1 - 50 * len(tag) + cut % len(tag)):
        with pytest.raises(DecodeError, match="truncated"):
            decode(data[:end])


def test_a_run_of_floats_that_holds_one_not_finite():
    floats = [struct.pack(">Bd", 70, 1.0)] * 50 + [struct.pack(">Bd", 70, float("inf"))] * 2
    with pytest.raises(DecodeError, match="not finite at offset 456"):
        decode(b"\x83l\0\0\0\x34" + b"".join(floats) + b"j")


def test_large_binary_is_read_once():
    payload = b"x" * (100 << 20)
    data = b"\x83m" + struct.pack(">I", len(payload)) + payload
    assert len(decode(data)) == len(payload)
    assert decode(data, binaries="bytes") == payload


def test_atoms_of_the_node_do_not_count_as_created(monkeypatch):
    monkeypatch.setattr(terms, "_created_atoms", set())
    monkeypatch.setattr(terms, "MAX_CREATED_ATOMS", 0)
    name = b"a_name_that_nobody_else_uses"
    atom = decode(b"\x83w" + bytes([len(name)]) + name)
    assert type(atom) is Atom
    assert Atom(name.decode()) is atom


def test_decode_error_is_picklable():
    import pickle

    error = pickle.loads(pickle.dumps(DecodeError("truncated", 7)))
    assert (str(error), error.offset) == ("truncated at offset 7", 7)


@st.composite
def mutated(draw):
    """An encoding with some bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(ENCODINGS) | any_terms.map(_encode_or_one)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(1, max(1, len(data))))
        length = draw(st.integers(0, 4))
        data[at : at + length] = draw(
            st.binary(max_size=5)
            | st.sampled_from([b"\xff\xff\xff\xff", b"t\0\0\0\1", b"h\2", b"j"])
        )
    return bytes(data)


def _encode_or_one(value):
    try:
        return decoder.encode(value)
    except ValueError:
        return b"\x83a\1"


@given(mutated(), st.sampled_from(["str", "bytes"]), st.sampled_from(["atom", "str"]))
def test_mutated_input_gives_a_value_or_its_own_error(data, binaries, atoms):
    try:
        value = decode(data, binaries=binaries, atoms=atoms)
    except (DecodeError, UnicodeDecodeError):
        return
    # Whatever was read can be written, and is read the same again.
    again = decode(decoder.encode(value), binaries="bytes")
    assert meaning(again) == meaning(value)


def test_random_mutations_by_the_thousand():
    """The same with less cleverness and more tries; ERLANG_PYTHON_EXAMPLES makes it longer."""
    chance = random.Random(20)
    for _ in range(max(20_000, EXAMPLES * 100)):
        data = bytearray(chance.choice(ENCODINGS[:-1]))
        if len(data) > 2000:
            continue
        for _ in range(chance.randint(1, 3)):
            data[chance.randrange(1, len(data))] = chance.choice((0, 1, 97, 104, 108, 116, 255))
        with contextlib.suppress(DecodeError, UnicodeDecodeError):
            decode(bytes(data), binaries=chance.choice(("str", "bytes")))


LONG = {
    "lists": lambda n: b"\x83" + b"l\0\0\0\1a\1" * n + b"j",
    "mixed": lambda n: b"\x83l" + struct.pack(">I", 2 * n) + b"a\1b\0\0\1\0" * n + b"j",
    "alternating": lambda n: b"\x83l" + struct.pack(">I", 4 * n) + b"a\1a\1a\1j" * n + b"j",
    "tuples": lambda n: b"\x83l" + struct.pack(">I", n) + b"h\2a\1h\1a\2" * n + b"j",
    "binaries": lambda n: b"\x83l" + struct.pack(">I", n) + b"m\0\0\0\2ab" * n + b"j",
    "atoms": lambda n: b"\x83l" + struct.pack(">I", n) + b"w\2abs\1a" * (n // 2) + b"j",
    "empty": lambda n: b"\x83l" + struct.pack(">I", n) + b"j" * n + b"j",
    "map": lambda n: (
        b"\x83t"
        + struct.pack(">I", n)
        + b"".join(struct.pack(">BiBB", 98, i, 97, 1) for i in range(n))
    ),
    "equal keys": lambda n: (
        b"\x83t"
        + struct.pack(">I", 2 * n)
        + b"".join(struct.pack(">BiBBBdBB", 98, i, 97, 1, 70, i, 97, 1) for i in range(n))
    ),
    "big": lambda n: b"\x83o" + struct.pack(">I", 8 * n) + b"\0" + b"\xff" * 8 * n,
}


@pytest.mark.parametrize("pattern", LONG)
def test_time_is_linear(pattern):
    def seconds(size):
        data = LONG[pattern](size)
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            decode(data)
            best = min(best, time.process_time() - start)
        return best

    # 16 times as long: linear is 16, quadratic 256.
    small, large = seconds(4_000), seconds(64_000)
    assert large < 80 * small + 0.05


def test_same_is_strict():
    assert not same(1, 1.0)
    assert not same(0.0, -0.0)
    assert not same([True], [1])
    assert not same(FrozenList(), [])
