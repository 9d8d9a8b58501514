"""Every way of encoding that there is here, and what the tests of them share."""

from __future__ import annotations

from erlang_port.etf.decoder import decode
from erlang_port.etf.encoder import Encoder, ways
from erlang_port.etf.terms import Pid

WAYS = ways()
PID = Pid(b"Xw\x03a@b" + bytes(range(12)))


ENCODERS = [Encoder(way=way) for way in WAYS]


def back(encoded):
    return decode(encoded, binaries="bytes")


def nested(depth, wrap):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value
