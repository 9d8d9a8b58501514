"""Arguments: what is read here is what the decoder reads."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.etf.arguments import FEW, arguments
from erlang_port.etf.decoder import decode_prefix
from erlang_port.etf.writer import encode

TEXTS = st.text(max_size=5) | st.sampled_from(["x" * 255, "x" * 256])
#: As Erlang writes lists of small integers.
STRINGS = st.binary(max_size=5).map(lambda data: struct.pack(">BH", 107, len(data)) + data)
COMMON = st.integers(-(1 << 31), (1 << 31) - 1).map(lambda n: encode(n)[1:]) | TEXTS.map(
    lambda text: encode(text)[1:]
)
OTHERS = st.one_of(
    st.floats(allow_nan=False), st.just({"a": 1}), st.just(1 << 40), st.just([])
).map(lambda value: encode(value)[1:])


@pytest.mark.parametrize("binaries", ["str", "bytes"])
@pytest.mark.parametrize("atoms", ["atom", "str"])
@given(st.lists(COMMON | STRINGS | OTHERS, max_size=FEW + 2))
def test_they_are_what_the_decoder_reads(binaries: str, atoms: str, items: list[bytes]) -> None:
    listed = struct.pack(">BI", 108, len(items)) + b"".join(items) if items else b""
    data = b"before\x83" + listed + b"j" + b"after"
    found: tuple[list[Any], int] = arguments(data, 6, binaries, atoms)
    assert found == decode_prefix(data, 6, binaries, atoms)
    assert found[1] == len(data) - 5
    assert arguments(bytearray(data), 6, binaries, atoms) == found  # type: ignore[arg-type]


def test_text_that_is_not_utf_8_is_an_error_that_says_where() -> None:
    data = b"\x83l\0\0\0\2a\1m\0\0\0\2a\xffj"
    with pytest.raises(UnicodeDecodeError) as read_here:
        arguments(data, 0, "str", "atom")
    with pytest.raises(UnicodeDecodeError) as read_by_the_decoder:
        decode_prefix(data, 0)
    assert str(read_here.value) == str(read_by_the_decoder.value)


def test_an_improper_list_is_the_decoders() -> None:
    data = b"\x83l\0\0\0\1a\1a\2"
    assert arguments(data, 0, "str", "atom") == decode_prefix(data, 0)
