"""The channels that this worker reads from: who is who, and what is said back."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable

from erlang_port.current import has_node
from erlang_port.errors import ErlangError
from erlang_port.etf import decoder
from erlang_port.etf.incoming import TAG, Channel
from erlang_port.etf.terms import Atom, Pid
from erlang_port.hints import Any
from erlang_port.wire import frames

Wakers = tuple[Callable[[], object], Callable[[], object]]

_CHANNEL = b"w\x07channel"
_WOULD_WAIT = "reading from a channel would hold up the event loop; use async for"


class IncomingChannels:
    """By the number that this worker has given each; the node sends values under it."""

    def __init__(
        self,
        waiter: Callable[[str], Wakers],
        ask: Callable[[bytes, list[Any]], None],
        tell: Callable[[Pid, Any], None],
    ) -> None:
        self._waiter = waiter
        self._ask = ask
        self._tell = tell
        self._numbers = itertools.count(1)
        #: Unlike that of any other worker, since a channel may come to several.
        self._prefix = os.urandom(6)
        self._lock = threading.RLock()
        self._by_number: dict[bytes, weakref.ref[Channel]] = {}
        self._by_pid: weakref.WeakValueDictionary[Pid, Channel] = weakref.WeakValueDictionary()

    def handlers(self) -> dict[int, Callable[[bytes, bytes, int], None]]:
        """What is done for each kind of frame; on whichever thread reads."""
        return {frames.CHANNEL_VALUES: self._on_values, frames.CHANNEL_END: self._on_end}

    def arrived(self, pid: Pid, available: Any) -> Channel:
        """The channel of this process: the same object for as long as somebody has it."""
        with self._lock:
            channel = self._by_pid.get(pid)
            if channel is not None and not channel.is_closed:
                return channel
            address = b"%b%x" % (self._prefix, next(self._numbers))
            channel = Channel(pid, available, _Link(self, pid, address))
            self._by_pid[pid] = channel
            self._by_number[address] = weakref.ref(channel)
        size = len(address).to_bytes(4, "big")
        self._ask(_CHANNEL, [pid.raw, b"l\0\0\0\1m", size, address, b"j"])
        return channel

    def _find(self, address: bytes) -> Channel | None:
        found = self._by_number.get(address)
        return None if found is None else found()

    def _on_values(self, frame: bytes, address: bytes, offset: int) -> None:
        channel = self._find(address)
        if channel is not None:
            flags, count, quarter, at = frames.read_channel_values(frame, offset)
            channel.put(_Values(frame, at, flags, count), quarter)

    def _on_end(self, frame: bytes, address: bytes, offset: int) -> None:
        channel = self._find(address)
        if channel is not None:
            self._by_number.pop(address, None)
            why = decoder.decode(frame, offset)
            channel.end(None if why == "closed" else ErlangError(Atom("exit"), *why))

    # For a link; from any thread, amid anything.

    def closed(self, pid: Pid, address: bytes) -> None:
        """Nobody wants more of it."""
        if self._by_number.pop(address, None) is not None:
            self.say(pid, "closed", address)

    def say(self, pid: Pid, what: str, value: Any) -> None:
        """Tells the channel's process; not in a process that the worker has forked."""
        if has_node():
            self._tell(pid, (Atom(TAG), Atom(what), value))


class _Link:
    """See erlang_port.etf.incoming.Link."""

    __slots__ = ("_address", "_channels", "_pid")

    def __init__(self, channels: IncomingChannels, pid: Pid, address: bytes) -> None:
        self._channels = channels
        self._pid = pid
        self._address = address

    def waiter(self) -> Wakers:
        return self._channels._waiter(_WOULD_WAIT)

    def taken(self, count: int) -> None:
        self._channels.say(self._pid, "taken", (self._address, count))

    def closed(self) -> None:
        self._channels.closed(self._pid, self._address)


class _Values:
    """See erlang_port.etf.incoming.Values."""

    __slots__ = ("_at", "_flags", "_frame", "count")

    def __init__(self, frame: bytes, at: int, flags: int, count: int) -> None:
        self._frame = frame
        self._at = at
        self._flags = flags
        self.count = count

    def decode(self) -> list[Any]:
        binaries = "bytes" if self._flags & frames.FLAG_BYTES else "str"
        atoms = "str" if self._flags & frames.FLAG_ATOMS_AS_STR else "atom"
        return decoder.decode(self._frame, self._at, binaries, atoms)  # type: ignore[no-any-return]
