"""An encoded term as one would type it in Erlang."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from erlang.testing._make import NODE
from erlang_port.etf.opaque import Fun, Pid, Port, Reference

_PLAIN_ATOM = re.compile(r"[a-z][a-zA-Z0-9_@]*\Z", re.ASCII)
_RESERVED = frozenset(
    "after and andalso band begin bnot bor bsl bsr bxor case catch cond div else end fun if let "  # noqa: SIM905
    "maybe not of or orelse receive rem try when xor".split()
)
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\"}


def text_of(encoded: bytes) -> str:
    """The text of a term, from its bytes in the External Term Format, version byte first."""
    text, end = _read(encoded, 1)
    assert end == len(encoded)
    return text


def _read(raw: bytes, at: int) -> tuple[str, int]:
    return _READERS[raw[at]](raw, at)


def _number(raw: bytes, at: int, layout: str) -> tuple[int, int]:
    return struct.unpack_from(layout, raw, at)[0], at + struct.calcsize(layout)


def _fixed(layout: str) -> Callable[[bytes, int], tuple[str, int]]:
    def read(raw: bytes, at: int) -> tuple[str, int]:
        number, end = _number(raw, at + 1, layout)
        return str(number), end

    return read


def _float(raw: bytes, at: int) -> tuple[str, int]:
    text = repr(struct.unpack_from(">d", raw, at + 1)[0]).replace("e+", "e")
    if "e" in text and "." not in text:
        text = text.replace("e", ".0e")
    return text, at + 9


def _big(layout: str) -> Callable[[bytes, int], tuple[str, int]]:
    def read(raw: bytes, at: int) -> tuple[str, int]:
        size, sign = _number(raw, at + 1, layout)
        end = sign + 1 + size
        number = int.from_bytes(raw[sign + 1 : end], "little")
        return hex_or_decimal(-number if raw[sign] else number), end

    return read


def hex_or_decimal(number: int) -> str:
    """Decimal, as Erlang prints it; but where Python refuses that for its length, in base 16."""
    if number.bit_length() <= 10_000:
        return str(number)
    return f"{'-' if number < 0 else ''}16#{abs(number):X}"


def _atom(layout: str, encoding: str) -> Callable[[bytes, int], tuple[str, int]]:
    def read(raw: bytes, at: int) -> tuple[str, int]:
        size, start = _number(raw, at + 1, layout)
        name = raw[start : start + size].decode(encoding)
        return atom(name), start + size

    return read


def atom(name: str) -> str:
    """An atom, quoted where that is needed."""
    if _PLAIN_ATOM.match(name) and name not in _RESERVED:
        return name
    return _quoted(name, "'")


def _quoted(text: str, mark: str) -> str:
    def escaped(char: str) -> str:
        if char == mark:
            return "\\" + char
        known = _ESCAPES.get(char)
        if known is not None:
            return known
        return char if char.isprintable() else f"\\x{{{ord(char):X}}}"

    return mark + "".join(map(escaped, text)) + mark


def _binary(raw: bytes, at: int) -> tuple[str, int]:
    size, start = _number(raw, at + 1, ">I")
    end = start + size
    return binary(raw[start:end]), end


def binary(data: bytes) -> str:
    """A binary, as a string if it is text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if not data or not all(char.isprintable() or char in _ESCAPES for char in text):
        return f"<<{','.join(map(str, data))}>>"
    return f"<<{_quoted(text, chr(34))}{'' if text.isascii() else '/utf8'}>>"


def _bitstring(raw: bytes, at: int) -> tuple[str, int]:
    size, start = _number(raw, at + 1, ">I")
    bits, data = raw[start], raw[start + 1 : start + 1 + size]
    parts = [*map(str, data[:-1]), f"{data[-1] >> (8 - bits)}:{bits}"]
    return f"<<{','.join(parts)}>>", start + 1 + size


def _terms(raw: bytes, at: int, count: int) -> tuple[list[str], int]:
    texts = []
    for _ in range(count):
        text, at = _read(raw, at)
        texts.append(text)
    return texts, at


def _tuple(layout: str) -> Callable[[bytes, int], tuple[str, int]]:
    def read(raw: bytes, at: int) -> tuple[str, int]:
        texts, end = _terms(raw, *reversed(_number(raw, at + 1, layout)))
        return f"{{{','.join(texts)}}}", end

    return read


def _list(raw: bytes, at: int) -> tuple[str, int]:
    texts, end = _terms(raw, *reversed(_number(raw, at + 1, ">I")))
    if raw[end] == 106:
        return f"[{','.join(texts)}]", end + 1
    tail, end = _read(raw, end)
    return f"[{','.join(texts)}|{tail}]", end


def _string(raw: bytes, at: int) -> tuple[str, int]:
    size, start = _number(raw, at + 1, ">H")
    return f"[{','.join(map(str, raw[start : start + size]))}]", start + size


def _map(raw: bytes, at: int) -> tuple[str, int]:
    count, at = _number(raw, at + 1, ">I")
    texts, end = _terms(raw, at, 2 * count)
    pairs = [f"{key} => {value}" for key, value in zip(texts[::2], texts[1::2], strict=True)]
    return f"#{{{', '.join(pairs)}}}", end


def _opaque(kind: Any, show: Callable[[Any], str]) -> Callable[[bytes, int], tuple[str, int]]:
    def read(raw: bytes, at: int) -> tuple[str, int]:
        end = _end_of_opaque(raw, at)
        return show(kind(raw[at:end])), end

    return read


def _end_of_opaque(raw: bytes, at: int) -> int:
    tag = raw[at]
    if tag == 112:  # NEW_FUN_EXT
        return at + 1 + _number(raw, at + 1, ">I")[0]
    if tag == 113:  # EXPORT_EXT
        return _read(raw, _read(raw, at + 1)[1])[1] + 2
    words = _number(raw, at + 1, ">H")[0] if tag in (90, 114) else 0
    _, end = _read(raw, at + (3 if words else 1))
    # What comes behind the node.
    sizes = {88: 12, 103: 9, 90: 4 + 4 * words, 101: 5, 114: 1 + 4 * words, 120: 12, 89: 8, 102: 5}
    return end + sizes[tag]


def _of(term: Pid | Reference | Port) -> str:
    return "0" if term.node == NODE else term.node


def _pid(term: Pid) -> str:
    _, number, serial, _ = term.fields()
    return f"<{_of(term)}.{number}.{serial}>"


def _reference(term: Reference) -> str:
    return f"#Ref<{_of(term)}.{'.'.join(map(str, reversed(term.fields()[1])))}>"


def _port(term: Port) -> str:
    return f"#Port<{_of(term)}.{term.fields()[1]}>"


def _fun(term: Fun) -> str:
    module, function, arity, _ = term.fields()
    if function:
        return f"fun {atom(module)}:{atom(function)}/{arity}"
    return f"#Fun<{module}/{arity}>"


_READERS: dict[int, Callable[[bytes, int], tuple[str, int]]] = {
    70: _float,
    77: _bitstring,
    88: _opaque(Pid, _pid),
    89: _opaque(Port, _port),
    90: _opaque(Reference, _reference),
    97: _fixed(">B"),
    98: _fixed(">i"),
    100: _atom(">H", "latin-1"),
    101: _opaque(Reference, _reference),
    102: _opaque(Port, _port),
    103: _opaque(Pid, _pid),
    104: _tuple(">B"),
    105: _tuple(">I"),
    106: lambda _, at: ("[]", at + 1),
    107: _string,
    108: _list,
    109: _binary,
    110: _big(">B"),
    111: _big(">I"),
    112: _opaque(Fun, _fun),
    113: _opaque(Fun, _fun),
    114: _opaque(Reference, _reference),
    115: _atom(">B", "latin-1"),
    116: _map,
    118: _atom(">H", "utf-8"),
    119: _atom(">B", "utf-8"),
    120: _opaque(Port, _port),
}
