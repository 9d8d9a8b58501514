"""What py_terms_SUITE calls."""

import dataclasses
import datetime
import decimal
import enum
import importlib.util
import ipaddress
import math
import pathlib
import uuid
from collections import deque, namedtuple
from types import MappingProxyType

from erlang_port.etf.terms import Atom

from erlang_port.etf import encoder
from erlang_port.etf.conversions import register_encoder


def has_msgpack():
    return importlib.util.find_spec("msgpack") is not None


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclasses.dataclass
class Pair:
    x: object
    y: object


class Money:
    def __erlang__(self):
        return (Atom("money"), 5, "EUR")


class Broken:
    def __erlang__(self):
        raise LookupError("my own")


class UnheardOfError(Exception):
    pass


Point = namedtuple("Point", "x y")
register_encoder(ipaddress.IPv4Address, lambda ip: tuple(ip.packed))


def same(value):
    return value


def reprs(values):
    for value in values:
        yield repr([value])


def unheard_of():
    raise UnheardOfError


def atoms():
    for number in range(1_000_000):
        yield Atom(f"coined_{number}")


def conversions():
    return {
        "nan": [math.nan, math.inf, -math.inf],
        "set": {5},
        "bytearray": bytearray(b"\xff"),
        "enum": [Color.RED, Color.BLUE],
        "dataclass": Pair(1, [None]),
        "named_tuple": Point(1, None),
        "datetime": datetime.datetime(2024, 2, 29, 12, 30),
        "timedelta": datetime.timedelta(days=-1, milliseconds=-500),
        "collections": [deque([1]), range(2), {"k": 1}.items(), MappingProxyType({"k": {1}})],
        "decimal": decimal.Decimal("1.10"),
        "uuid": uuid.UUID(int=1),
        "path": pathlib.PurePosixPath("/a/b"),
        "own": Money(),
        "registered": ipaddress.ip_address("127.0.0.1"),
        "big": -(1 << 100),
        "atom": [Atom("ok"), Atom("中")],
        "numpy": numpy_values(),
    }


def numpy_values():
    try:
        import numpy as np
    except ImportError:
        day = datetime.datetime(2024, 2, 29)
        return [1, 1.5, True, [[0, 1], [2, 3]], [math.nan], [day, None], datetime.timedelta(0, 1)]
    return [
        *(np.int64(1), np.float32(1.5), np.bool_(True)),
        *(np.arange(4).reshape(2, 2), np.array([np.nan])),
        *(np.array(["2024-02-29", "NaT"], "M8[ns]"), np.timedelta64(1, "s")),
    ]


def deep_list():
    value = []
    for _ in range(1_000_000):
        value = [value]
    return value


def cyclic_list(width):
    value = [0] * width
    value.append(value)
    return value


def cyclic_dataclass():
    value = Pair(1, None)
    value.y = value
    return value


HOSTILE = {
    "deep list": deep_list,
    "cyclic list": lambda: cyclic_list(1),
    "wide cyclic list": lambda: cyclic_list(1_000_000),
    "cyclic dataclass": cyclic_dataclass,
    "lone surrogate": lambda: "\ud800",
    "lone surrogate in a key": lambda: [{"\ud800": 1}],
    "long atom": lambda: Atom("a" * 256),
    "function": lambda: deep_list,
    "generator inside": lambda: {"a": [x for x in [(y for y in ())]]},
    "same key twice": lambda: {"a": 1, b"a": 2},
    "huge integer": lambda: 1 << 40_000_000,
    "own error": lambda: [1, Broken()],
    "large dict": lambda: dict.fromkeys(range(1_000_000)),
    "large bytes": lambda: bytes(200 << 20),
    "large str": lambda: "é" * 10_000_000,
    "large integer": lambda: 1 << 1_000_000,
}


def hostile(name):
    return HOSTILE[name]()


def two_and_hostile(name):
    yield 1
    yield 2
    yield HOSTILE[name]()
