"""Which channel takes what is printed, and how much each has under way."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from erlang_port.current import current
from erlang_port.node.blocking import BlockingWait
from erlang_port.node.lossy_channel import LIMIT, LossyChannel
from erlang_port.node.stdout import Devices, Output, note
from erlang_port.wire import frames
from fakes import FakeFrameWriter, FakeTicker


class Writer(FakeFrameWriter):
    def wait(self, _seconds: float) -> None:
        pass


class Ticker(FakeTicker):
    def call_later(self, _seconds: float, _function: Any) -> None:
        pass


class Loop:
    region = None


class Request:
    def __init__(self, output: bytes) -> None:
        self.output = output


class Region:
    def is_current(self) -> bool:
        return False


@pytest.fixture
def writer() -> Any:
    return Writer()


@pytest.fixture
def devices(writer) -> Devices:
    region: Any = Region
    loop: Any = Loop()
    blocking = BlockingWait(region, loop, lambda _request: lambda: None)

    def make(device: bytes) -> LossyChannel:
        return LossyChannel(writer, FakeTicker(), blocking, frames.OUTPUT, False, note, device)

    return Devices(make)


def test_there_is_one_channel_for_each(devices):
    assert devices.channel(b"a") is devices.channel(b"a")
    assert devices.channel(b"a") is not devices.channel(b"b")


def test_those_that_are_idle_go_when_another_comes(devices):
    idle, busy = devices.channel(b"idle"), devices.channel(b"busy")
    busy.offer([b"x"])
    devices.channel(b"new")
    assert devices.channel(b"busy") is busy
    assert devices.channel(b"idle") is not idle
    devices.credit_more(b"busy", 1)
    devices.channel(b"newer")
    assert devices.channel(b"busy") is not busy


def test_what_a_channel_before_it_has_sent_counts_for_none(devices):
    devices.channel(b"a")
    devices.credit_more(b"a", 100)
    devices.credit_more(b"unknown", 100)
    assert devices.channel(b"a").is_idle()


def test_a_device_that_takes_nothing_fills_only_its_own_window(devices):
    def flood() -> None:
        # On a thread that must not wait, as those of the program.
        threading.current_thread().name = "erlang_port"
        taken.append(devices.channel(b"stuck").offer([b"x" * LIMIT]))
        taken.append(devices.channel(b"stuck").offer([b"x"]))
        taken.append(devices.channel(b"other").offer([b"x"]))

    taken: list[bool] = []
    thread = threading.Thread(target=flood)
    thread.start()
    thread.join()
    assert taken == [True, False, True]
    devices.credit_more(b"stuck", LIMIT // 2)
    devices.credit_more(b"stuck", LIMIT // 2)
    assert devices.channel(b"stuck").offer([b"x"])


def test_the_running_request_says_where(devices, writer):
    out = Output(devices.channel(b""), devices, Ticker())
    out.write("of none")
    token = current.set(Request(b"mine"))
    try:
        out.write("mine")
        out.flush_device(b"mine")
        out.write("later")
    finally:
        current.reset(token)
    out.flush_all()
    assert writer.frames == [
        frames.header(frames.OUTPUT, b"mine", 4) + b"mine",
        frames.header(frames.OUTPUT, b"", 7) + b"of none",
        frames.header(frames.OUTPUT, b"mine", 5) + b"later",
    ]
