"""The pulse: a worker's counters, sent to the node when they have changed.

So nobody has to ask a worker how it is, which may be stuck.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from erlang_port.runtime.ticker import Ticker

#: How long after a request has begun or ended the counters are sent, in seconds. A larger
#: number makes them older, a smaller one costs more frames while requests come and go: at
#: most one in this time.
PULSE_SECONDS = 0.05

#: What changes by itself, as threads that end, is found by checks whose pauses double from
#: there to here, in seconds. A larger number costs an idle worker more wake-ups before it
#: sleeps.
LONGEST_SECONDS = 4.0

Counters = dict[str, int]

_MAP = struct.Struct(">BBI")
_INTEGER = struct.Struct(">Bi")


def encode(counters: Counters) -> bytes:
    """Counters as a map with atoms, without an encoder: each thread's has a large buffer."""
    pairs = (
        b"w%c%b%b" % (len(name), name.encode(), _INTEGER.pack(98, count))
        for name, count in counters.items()
    )
    return _MAP.pack(131, 116, len(counters)) + b"".join(pairs)


class Pulse:
    """Sends what `read` returns, by `send`, some time after `mark`, if it has changed."""

    def __init__(
        self, ticker: Ticker, read: Callable[[], Counters], send: Callable[[Counters], None]
    ) -> None:
        self._ticker = ticker
        self._read = read
        self._send = send
        #: Whether the next pulse is due already; requests read it before they call `mark`.
        self.is_due = False
        self._last: Counters = {}
        #: Counts the pulses: a check that was planned before the last of them is dropped.
        self._serial = 0

    def mark(self) -> None:
        """A request has begun or ended."""
        self.is_due = True
        self._ticker.call_later(PULSE_SECONDS, self._due)

    def _due(self) -> None:
        self.is_due = False
        self._serial += 1
        self._beat()
        self._check_later(self._serial, 2 * PULSE_SECONDS)

    def _check_later(self, serial: int, seconds: float) -> None:
        def check() -> None:
            if serial == self._serial:
                self._beat()
                self._check_later(serial, 2 * seconds)

        if seconds <= LONGEST_SECONDS:
            self._ticker.call_later(seconds, check)

    def _beat(self) -> None:
        counters = self._read()
        if counters != self._last:
            self._last = counters
            self._send(counters)
