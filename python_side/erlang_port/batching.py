"""Small things that come fast share a frame: when they count as fast, and how many share one.

The same for the values of a sync stream, messages, printed lines and log records.
"""

from __future__ import annotations

from erlang_port.hints import Final

#: What comes faster than this, one after another, is sent in runs, in seconds. A larger number
#: makes slow generators wait for the ticker; a smaller one sends frames of one item where a few
#: could share one. Sending one costs about 10 us.
FAST_SECONDS: Final = 0.0002

#: Fast items in a row that make a fast sender. More cost frames at the start of every burst, fewer
#: make runs of what is no burst.
FAST_ITEMS: Final = 3

#: The most items in one frame. More cost latency and memory at both ends, fewer cost frames:
#: with 256 integers a frame costs under 10 ns for each.
RUN_LENGTH: Final = 256

#: The most encoded bytes in one frame, but for the last item. A larger number holds other
#: frames back for longer, a smaller one costs system calls.
RUN_BYTES: Final = 64 * 1024

#: How many times longer the next run of a fast sender is, where the values are small. More send
#: fewer frames at the start of a burst; with fewer it takes longer to find what fits.
RUN_GROWTH: Final = 4

#: Who sends at full speed and reads for itself, a stream's thread or the event loop, reads after
#: this many runs. More let a call wait for longer, 30 to 40 us for each run; fewer cost a system
#: call, about 1 us, for each.
RUNS_PER_READ: Final = 4
