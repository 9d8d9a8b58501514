"""Messages in their queue: their order, their runs, and when they leave."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlang_port.batching import RUN_BYTES, RUN_LENGTH
from erlang_port.etf.encoder import Encoder
from erlang_port.etf.terms import Atom
from erlang_port.node import channel
from erlang_port.node.messages import Messages, is_fixed
from erlang_port.wire import frames
from fakes import FakeFrameWriter, FakeTicker, payload

A, B = b"w\x01a", b"w\x01b"


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(channel, "time", clock)
    return clock


def send(messages: Messages, to: bytes, term: Any) -> None:
    """As `Node.send` does."""
    if not is_fixed(term):
        buffers = Encoder().buffers(term)
        messages.put_term(to, buffers, sum(map(len, buffers)))
    elif not messages.put_fixed(to, term):
        messages.put_term(to, term, None)


class Sent:
    """Messages, and the frames that they have left in."""

    def __init__(self) -> None:
        self.frame_writer = FakeFrameWriter()
        self.ticker = FakeTicker()
        encoder = Encoder()
        self.messages = Messages(self.frame_writer.put, self.ticker, lambda: encoder)


def delivered(sent: Sent) -> list[tuple[str, Any]]:
    """What the node makes of the frames."""
    found: list[tuple[str, Any]] = []
    for frame in sent.frame_writer.frames:
        assert frame[4] == frames.SEND
        for entry in payload(frame):
            if len(entry) == 3:
                to, tag, terms = entry
                assert tag == "run"
                found += [(to, term) for term in terms]
            else:
                found.append(entry)
    return found


def test_a_message_that_comes_alone_leaves_at_once(clock):
    sent = Sent()
    messages = sent.messages
    for number in range(5):
        clock.now += 1
        send(messages, A, number)
        assert len(sent.frame_writer.frames) == number + 1
    assert delivered(sent) == [("a", number) for number in range(5)]
    assert not sent.ticker.active


def test_a_burst_leaves_in_runs_and_at_the_next_tick(clock):
    sent = Sent()
    messages = sent.messages
    count = 3 * RUN_LENGTH
    for number in range(count):
        send(messages, A, number)
    sent.ticker.tick()
    assert delivered(sent) == [("a", number) for number in range(count)]
    assert len(sent.frame_writer.frames) < 10
    # A tick that finds nothing is the last one.
    assert sent.ticker.active
    sent.ticker.tick()
    assert not sent.ticker.active
    send(messages, A, "later")
    sent.ticker.tick()
    assert delivered(sent)[-1] == ("a", "later")


def test_flush_leaves_nothing_behind(clock):
    sent = Sent()
    messages = sent.messages
    for number in range(20):
        send(messages, A, number)
        messages.flush()
        assert len(delivered(sent)) == number + 1


def test_what_can_change_is_sent_as_it_was(clock):
    sent = Sent()
    messages = sent.messages
    changing = [0]
    for number in range(20):
        changing[0] = number
        send(messages, A, changing)
    messages.flush()
    assert delivered(sent) == [("a", [number]) for number in range(20)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B]),
            st.one_of(
                st.integers(),
                st.floats(allow_nan=False, allow_infinity=False),
                st.booleans(),
                st.none(),
                st.text(max_size=20),
                st.text(st.characters(max_codepoint=127), max_size=20).map(str.encode),
                st.lists(st.integers(0, 9), max_size=3),
                st.just(Atom("atom")),
                st.just("x" * (RUN_BYTES // 3)),
                st.just("y" * (RUN_BYTES + 1)),
            ),
            st.sampled_from(["", "", "", "tick", "flush", "pause"]),
        ),
        max_size=60,
    )
)
def test_any_order_is_kept(steps):
    clock = Clock()
    sent = Sent()
    messages = sent.messages
    expected = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channel, "time", clock)
        for to, term, then in steps:
            send(messages, to, term)
            expected.append((str(to[2:], "ascii"), term))
            if then == "tick":
                sent.ticker.tick()
            elif then == "flush":
                messages.flush()
            elif then == "pause":
                clock.now += 1
        messages.flush()
    found = [(to, term.encode() if type(term) is str else term) for to, term in delivered(sent)]
    assert found == [(to, term.encode() if type(term) is str else term) for to, term in expected]
    assert messages.window.sent == sum(len(frame) - 6 for frame in sent.frame_writer.frames)


def test_frames_are_no_longer_than_a_run(clock):
    sent = Sent()
    messages = sent.messages
    text = "x" * 1000
    for _ in range(1000):
        send(messages, A, text)
    messages.flush()
    assert len(delivered(sent)) == 1000
    assert max(map(len, sent.frame_writer.frames)) < RUN_BYTES + 4096


def test_what_is_too_large_for_a_frame_is_refused():
    messages = Sent().messages
    with pytest.raises(frames.FrameTooLargeError):
        messages.put_term(A, [b""], frames.MAX_FRAME)


@pytest.mark.parametrize("term", [1, 2**80, -1.5, True, None, "ascii", b"bytes", Atom("ö")])
def test_what_is_encoded_late(term):
    assert is_fixed(term)


@pytest.mark.parametrize("term", ["ö", "\udcff", "x" * 5000, b"x" * 5000, [], (), {}, object()])
def test_what_is_encoded_at_once(term):
    assert not is_fixed(term)
