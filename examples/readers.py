"""Generators that read from a channel, which an Erlang process fills.

Both take chunks of bytes of any size, as a socket or a sound card gives them.
"""

import codecs
import csv
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

# Sound in Morse code: 16 bits a sample, 8,000 samples a second, 60 ms for a dot.
_BLOCK = 160
_DOT = 3
_LOUD = 8000

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_SIGNS = """
.- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..-
-.-- --.. ----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.
"""
_CODE = dict(zip(_SIGNS.split(), _LETTERS, strict=True))


def words(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the words of a sound, each as soon as the silence behind it is long enough."""
    word = signs = ""
    tone = gap = 0
    for is_loud in _blocks(chunks):
        if is_loud:
            tone, gap = tone + 1, 0
            continue
        if tone:
            signs += "." if tone < 2 * _DOT else "-"
            tone = 0
        gap += 1
        if gap == 2 * _DOT and signs:
            word, signs = word + _CODE.get(signs, "?"), ""
        elif gap == 5 * _DOT and word:
            yield word
            word = ""
    if word or signs:
        yield word + _CODE.get(signs, "")


def _blocks(chunks: Iterable[bytes]) -> Iterator[bool]:
    """Whether each block of 20 ms is loud."""
    size = 2 * _BLOCK
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) - len(rest) % size
        samples, rest = array("h", rest[:whole]), rest[whole:]
        for begin in range(0, len(samples), _BLOCK):
            yield max(samples[begin : begin + _BLOCK]) > _LOUD


@dataclass
class Reading:
    """A row of a table, by its types."""

    sensor: str
    at: datetime
    celsius: float


def readings(chunks: Iterable[bytes]) -> Iterator[Reading]:
    """Yield the rows of a table in CSV, each as soon as its line is complete."""
    for row in csv.DictReader(_lines(chunks)):
        at = datetime.fromisoformat(row["at"])
        yield Reading(row["sensor"], at, float(row["celsius"]))


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    for chunk in chunks:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        yield from whole
    if rest:
        yield rest
