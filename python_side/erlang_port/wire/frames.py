"""The frames between a worker and its node, as written down in docs/protocol.md.

A frame is four bytes of length (big-endian, ``{packet, 4}``), a kind, the size of
an address, the address, and a payload. The address is an External Term Format pid
or reference; it is the name of a request here, and is handed back unread.

Pure functions: nothing here reads or writes.
"""

from __future__ import annotations

import struct

from erlang_port.hints import NamedTuple

# From Erlang to Python.
SETTINGS = 1
STREAM = 2
CALL = 3
EXEC = 4
CANCEL = 5
CREDIT = 6
CALLBACK_RESULT = 7
PING = 8
LEVEL = 9
ACK = 11
STOP = 12
CHANNEL_VALUES = 13
CHANNEL_END = 14
RELEASE = 15
STACKS = 16

# From Python to Erlang.
READY = 65
EVENT = 66
LAST = 67
REPLY = 68
SEND = 69
CALLBACK = 70
OUTPUT = 71
LOG = 72
PONG = 73
FAILED = 74
REPLY_AFTER_SENDS = 75
LEAVING = 76
PULSE = 77
CHANGED = 78
HELLO = 79
STACKS_RESULT = 80
NOT_RUNNING = 81

FLAG_BYTES = 1
FLAG_TRACEBACK = 2
FLAG_ATOMS_AS_STR = 4
FLAG_HANDLE = 8
FLAG_METADATA = 16
FLAG_OUTPUT = 32
FLAG_PROFILE = 64

#: The flags of a target with something behind its names are these or more.
_WITH_EXTRAS = bytes((FLAG_METADATA,))

FUNCTION = 0
EXPRESSION = 1
METHOD = 2

#: ``{packet, 4}`` can announce this much; the node reads a frame as one binary.
MAX_FRAME = 0xFFFFFFFF - 1024

_HEADER = struct.Struct(">IBB")
#: Kind, flags, and how long the names or the code are, which follow; then come arguments.
TARGET = struct.Struct(">BBII")
_STREAM = struct.Struct(">QQqqqBBH")
_CREDIT = struct.Struct(">QQq")
_PONG = struct.Struct(">II")
_ACK = struct.Struct(">Q")
_CHANNEL_VALUES = struct.Struct(">BII")


class FrameError(ValueError):
    """A frame from the node makes no sense."""


class FrameTooLargeError(ValueError):
    """A value is too large to be sent as one frame."""


class Target(NamedTuple):
    """What to run, names or code, in `size` bytes; its arguments come after them."""

    kind: int
    flags: int
    first: str
    second: str
    size: int


class StreamOptions(NamedTuple):
    """How to run a stream; -1 stands for an option that is not set."""

    window: int
    window_bytes: int
    batch: int
    take: int
    demand: int
    format: int
    prefix: bytes
    owner: bytes


def header(kind: int, address: bytes, size: int) -> bytes:
    """The bytes before a payload of `size` bytes, the frame's length included."""
    length = 2 + len(address) + size
    if length > MAX_FRAME:
        raise FrameTooLargeError(f"a value of {size} encoded bytes is too large for one frame")
    return _HEADER.pack(length, kind, len(address)) + address


def pong(requests: int, streams: int) -> bytes:
    """The answer to a ping: how many requests are under way, and how many of them are streams."""
    return _PONG.pack(requests, streams)


class Extras(NamedTuple):
    """What few requests have behind their names, and where it ends."""

    #: A term; empty if there is none.
    metadata: bytes
    #: The I/O device that is printed to; none is the node's `user`.
    output: bytes
    #: The file for a profile.
    profile: str
    end: int


def read_extras(flags: int, frame: bytes, offset: int) -> Extras:
    """What comes behind the names of a target with these flags."""
    metadata, output, profile = b"", b"", ""
    if flags & FLAG_METADATA:
        start = offset + 4
        end = start + int.from_bytes(frame[offset:start], "big")
        metadata, offset = bytes(frame[start:end]), end
    if flags & FLAG_OUTPUT:
        end = offset + 1 + frame[offset]
        output, offset = bytes(frame[offset + 1 : end]), end
    if flags & FLAG_PROFILE:
        start = offset + 2
        offset = start + int.from_bytes(frame[offset:start], "big")
        profile = str(frame[start:offset], "utf-8")
    if offset > len(frame):
        raise FrameError("a frame ends before its arguments")
    return Extras(metadata, output, profile, offset)


def names_of(frame: bytes, offset: int) -> bytes:
    """The part of a target that is the same in each request for the same: kind, flags, names.

    Empty or too short where the frame ends before: `read_target` raises for that.
    """
    if len(frame) < offset + TARGET.size:
        return b""
    _, _, first, second = TARGET.unpack_from(frame, offset)
    return bytes(frame[offset : offset + TARGET.size + first + second])


def about_of(frame: bytes, offset: int, names: bytes) -> bytes:
    """What a target has before its arguments: its names, and what few have behind them."""
    if names[1:2] < _WITH_EXTRAS:
        return names
    extras = read_extras(names[1], frame, offset + len(names))
    return bytes(frame[offset : extras.end])


def extras_of(about: bytes) -> Extras:
    """The same of what `about_of` returns."""
    if len(about) < TARGET.size:
        return Extras(b"", b"", "", 0)
    _, flags, first, second = TARGET.unpack_from(about)
    return read_extras(flags, about, TARGET.size + first + second)


def read_target(frame: bytes, offset: int) -> Target:
    """What a stream or a call runs."""
    kind, flags, first, second = TARGET.unpack_from(frame, offset)
    middle = offset + TARGET.size + first
    end = middle + second
    if end > len(frame):
        raise FrameError("a frame ends within a name")
    return Target(
        kind,
        flags,
        str(frame[offset + TARGET.size : middle], "utf-8"),
        str(frame[middle:end], "utf-8"),
        end - offset,
    )


def read_stream(frame: bytes, offset: int) -> tuple[StreamOptions, int]:
    """A stream's options, and where its target begins."""
    window, window_bytes, batch, take, demand, kind, size, owner_size = _STREAM.unpack_from(
        frame, offset
    )
    start = offset + _STREAM.size
    middle = start + size
    end = middle + owner_size
    prefix, owner = bytes(frame[start:middle]), bytes(frame[middle:end])
    return StreamOptions(window, window_bytes, batch, take, demand, kind, prefix, owner), end


def read_credit(frame: bytes, offset: int) -> tuple[int, int, int]:
    """Values and bytes taken so far, and values asked for in all."""
    values, taken, demand = _CREDIT.unpack_from(frame, offset)
    return values, taken, demand


def read_ack(frame: bytes, offset: int) -> int:
    """Bytes of what a worker sends by itself that the node has taken so far."""
    (taken,) = _ACK.unpack_from(frame, offset)
    return taken  # type: ignore[no-any-return]


def read_channel_values(frame: bytes, offset: int) -> tuple[int, int, int, int]:
    """Flags, number of values, after how many the sender wants to know that they were taken.

    And where the values begin.
    """
    flags, count, quarter = _CHANNEL_VALUES.unpack_from(frame, offset)
    return flags, count, quarter, offset + _CHANNEL_VALUES.size
