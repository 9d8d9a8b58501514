"""A port program that speaks just enough of docs/protocol.md to be believed, then nonsense.

``fake.py SCENARIO -m erlang_port 3 4``: the name is that of a function here; the ones in
`BEFORE` come instead of *ready*, the others when a stream and a call are under way.
``fuzz:SEED`` sends frames with a few bytes changed.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import sys
import zlib
from collections.abc import Callable

IN, OUT = 3, 4

STREAM, CALL, PING, HELLO = 2, 3, 8, 79
READY, EVENT, LAST, REPLY, SEND, CALLBACK, OUTPUT, LOG, PONG, FAILED, REPLY_AFTER_SENDS = range(65, 76)

#: `#{python => <<"3">>, os_pid => OsPid}`
INFO = b"\x83t\0\0\0\2w\x06pythonm\0\0\0\x013w\x06os_pidb" + struct.pack(">I", os.getpid())

DATA = b"h\x02w\x04dataa\x07"
DONE = b"w\x04done"
OK = b"\x83h\x02w\x02oka\x07"


def take(size: int) -> bytes:
    """The next `size` bytes of what the node writes."""
    data = b""
    while len(data) < size:
        more = os.read(IN, size - len(data))
        if not more:
            os._exit(0)
        data += more
    return data


def frame(kind: int, address: bytes = b"", payload: bytes = b"") -> bytes:
    """A frame without its length."""
    return bytes((kind, len(address))) + address + payload


def put(*found: bytes) -> None:
    """Writes frames, all at once."""
    data = b"".join(struct.pack(">I", len(body)) + body for body in found)
    try:
        while data:
            data = data[os.write(OUT, data) :]
    except BrokenPipeError:
        # The node has had enough.
        os._exit(0)


def silence() -> None:
    """Neither sends nor reads nor ends."""
    while True:
        signal.pause()


def ends() -> None:
    """What a good program would have sent."""
    put(frame(LAST, stream, prefix + DONE), frame(REPLY, call, OK))


# What makes no sense.


def unknown_kind() -> None:
    put(frame(99, stream, prefix + DATA))


def kind_of_the_other_direction() -> None:
    put(frame(CALL, call, OK))


def empty_frame() -> None:
    put(b"")


def address_cut() -> None:
    put(bytes((EVENT, len(stream))) + stream[:5])


def address_that_is_no_term() -> None:
    put(frame(EVENT, b"\x83z" + stream[2:], prefix + DATA))


def address_that_is_an_atom() -> None:
    put(frame(EVENT, b"\x83w\x04init", prefix + DATA))


def address_of_another_node() -> None:
    # Behind the tags comes the node's name, its size before it.
    rest = stream[4 + stream[3] :]
    put(frame(EVENT, b"\x83Xw\x0bother@nodes" + rest, prefix + DATA))


def event_to_a_call() -> None:
    put(frame(EVENT, call, prefix + DATA))


def reply_to_a_stream() -> None:
    put(frame(REPLY, stream, OK))


def payload_that_is_no_term() -> None:
    put(frame(EVENT, stream, b"\xff\xff\xff"))


def payload_cut() -> None:
    put(frame(EVENT, stream, (prefix + DATA)[:-1]))


def payload_of_another_stream() -> None:
    put(frame(EVENT, stream, prefix[:-1] + bytes((prefix[-1] ^ 1,)) + DATA))


def unknown_event() -> None:
    put(frame(EVENT, stream, prefix + b"w\x04what"))


def batch_that_is_no_list() -> None:
    put(frame(EVENT, stream, prefix + b"h\x02w\x05batcha\x07"))


def batch_that_is_improper() -> None:
    put(frame(EVENT, stream, prefix + b"h\x02w\x05batchl\0\0\0\x01a\x01a\x02"))


def batch_of_nothing() -> None:
    put(frame(EVENT, stream, prefix + b"h\x02w\x05batchj"))


def last_with_a_value() -> None:
    put(frame(LAST, stream, prefix + DATA))


def promise_of_a_huge_value() -> None:
    # A compressed term of 4 GiB.
    put(frame(EVENT, stream, b"\x83P\xff\xff\xff\xff\x78\x9c"))


def reply_that_is_no_term() -> None:
    put(frame(REPLY, call, b"nonsense"))


def reply_that_is_no_result() -> None:
    put(frame(REPLY, call, b"\x83a\x07"))


def ready_twice() -> None:
    put(frame(READY, b"", INFO))


def failed_late() -> None:
    put(frame(FAILED, b"", b"why"))


def send_that_is_no_term() -> None:
    put(frame(SEND, b"", b"nonsense"))


def send_that_is_no_list() -> None:
    put(frame(SEND, b"", b"\x83a\x07"))


def send_of_no_pairs() -> None:
    put(frame(SEND, b"", b"\x83l\0\0\0\x01a\x07j"))


def send_that_is_improper() -> None:
    put(frame(SEND, b"", b"\x83l\0\0\0\x01h\x02w\x04nonea\x07a\x07"))


def send_that_is_compressed() -> None:
    # 64 MiB of zeros in some kilobytes.
    text = b"m" + struct.pack(">I", 1 << 26) + bytes(1 << 26)
    put(frame(SEND, b"", b"\x83P" + struct.pack(">I", len(text)) + zlib.compress(text)))


def send_of_no_float() -> None:
    put(frame(SEND, b"", b"\x83F" + b"\xff" * 8))


def send_of_new_atoms() -> None:
    # More than all workers of a node may make.
    count = 200000
    atoms = b"".join(b"w\x0aat_%07x" % n for n in range(count))
    put(frame(SEND, b"", b"\x83l" + struct.pack(">I", count) + atoms + b"j"))


def request_that_is_no_term() -> None:
    put(frame(CALLBACK, b"id", b"nonsense"))


def request_of_nothing_known() -> None:
    put(frame(CALLBACK, b"id", b"\x83w\x04what"))


def log_that_is_no_term() -> None:
    put(frame(LOG, b"", b"nonsense"))


def log_of_no_records() -> None:
    put(frame(LOG, b"", b"\x83l\0\0\0\x01a\x07j"))


def log_of_wrong_records() -> None:
    put(frame(LOG, b"", b"\x83l\0\0\0\x01h\x09" + b"a\x07" * 9 + b"j"))


def last_twice() -> None:
    ends()
    put(frame(LAST, stream, prefix + DONE))


def reply_twice() -> None:
    ends()
    put(frame(REPLY, call, OK))


# What is nobody's, and harms nobody.


def event_of_no_stream() -> None:
    # Another process's number, which nobody has.
    at = len(stream) - 8
    nobody = stream[:at] + struct.pack(">I", 0x7FF0) + stream[at + 4 :]
    put(frame(EVENT, nobody, prefix + DATA), frame(EVENT, nobody, b"\xff"))
    ends()


def event_after_the_end() -> None:
    put(frame(LAST, stream, prefix + DONE), frame(EVENT, stream, prefix + DATA))
    put(frame(REPLY, call, OK))


def pong_that_nobody_asked_for() -> None:
    put(frame(PONG, b"", bytes(8)))
    ends()


def nothing() -> None:
    ends()


# Ends.


def half_a_frame_and_exit() -> None:
    os.write(OUT, struct.pack(">I", 100) + b"half")
    os._exit(3)


def half_a_length_and_exit() -> None:
    os.write(OUT, b"\0\0")
    os._exit(3)


def two_gib_and_exit() -> None:
    os.write(OUT, struct.pack(">I", 2**31) + frame(EVENT, stream, prefix))
    os._exit(3)


def half_a_frame_and_silence() -> None:
    os.write(OUT, struct.pack(">I", 100) + b"half")
    silence()


def two_gib_and_silence() -> None:
    os.write(OUT, struct.pack(">I", 2**31) + frame(EVENT, stream, prefix))
    silence()


def closed_input_and_silence() -> None:
    os.close(IN)
    silence()


# Before it is ready.


def exit_at_once() -> None:
    os._exit(5)


def text_instead() -> None:
    os.write(OUT, b"Welcome to this shell\n")
    os._exit(5)


def event_before_ready() -> None:
    put(frame(EVENT, b"\x83w\x04init", b""))
    silence()


def pong_before_ready() -> None:
    put(frame(PONG, b"", bytes(8)))
    silence()


def ready_without_a_map() -> None:
    put(frame(READY, b"", b"\x83a\x07"))
    silence()


def ready_that_is_no_term() -> None:
    put(frame(READY, b"", b"nonsense"))
    silence()


def silence_before_ready() -> None:
    silence()


def half_a_frame_before_ready() -> None:
    os.write(OUT, struct.pack(">I", 100) + b"half")
    silence()


BEFORE: list[Callable[[], None]] = [
    exit_at_once,
    text_instead,
    event_before_ready,
    pong_before_ready,
    ready_without_a_map,
    ready_that_is_no_term,
    silence_before_ready,
    half_a_frame_before_ready,
]


def fuzz(seed: int) -> None:
    """Up to three frames, each with some bytes changed, cut off or put in; then the ends, and its own."""
    choice = random.Random(seed)
    for _ in range(choice.randint(1, 3)):
        good = [
            frame(EVENT, stream, prefix + DATA),
            frame(LAST, stream, prefix + DONE),
            frame(REPLY, call, OK),
            frame(SEND, b"", b"\x83j"),
            frame(LOG, b"", b"\x83j"),
            frame(PONG, b"", bytes(8)),
        ]
        body = bytearray(choice.choice(good))
        for _ in range(choice.randint(1, 2)):
            at = choice.randrange(len(body))
            how = choice.randrange(4)
            if how == 0:
                body[at] ^= 1 << choice.randrange(8)
            elif how == 1:
                body[at] = choice.randrange(256)
            elif how == 2 and at > 0:
                del body[at:]
            else:
                body[at:at] = choice.randbytes(choice.randint(1, 8))
        put(bytes(body))
    ends()
    os._exit(7)


scenario, _, seed = sys.argv[1].partition(":")
put(frame(HELLO, b"", os.getpid().to_bytes(4, "big")))
(length,) = struct.unpack(">I", take(4))
take(length)
if globals()[scenario] in BEFORE:
    globals()[scenario]()
put(frame(READY, b"", INFO))

stream = prefix = call = b""
is_done = False
while True:
    (length,) = struct.unpack(">I", take(4))
    body = take(length)
    address = body[2 : 2 + body[1]]
    if body[0] == STREAM:
        # Behind the address are 8 * 5 + 1 bytes of options, and the size of the prefix.
        at = 2 + body[1] + 41
        stream, prefix = address, body[at + 3 : at + 3 + body[at]]
        put(frame(EVENT, stream, prefix + DATA))
    elif body[0] == CALL:
        call = address
    elif body[0] == PING:
        # It knows of whatever it was asked for: one stream and one call.
        put(frame(PONG, b"", bytes(8) if is_done else struct.pack(">II", 2, 1)))
    if stream and call and not is_done:
        is_done = True
        if scenario == "fuzz":
            fuzz(int(seed))
        else:
            globals()[scenario]()
