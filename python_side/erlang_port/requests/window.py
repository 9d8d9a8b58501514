"""How much of a stream is out: yielded here and not known to be taken there."""

from __future__ import annotations

#: A demand that is not limited.
UNLIMITED = -1


class Window:
    """The window of one stream; the node says what was taken, in sums since the start.

    A window that the node lets grow says that more values were taken by what it has grown, so
    whether nothing is out is known by the bytes alone.

    At most `size` values and `max_bytes` encoded bytes are out. One value may always
    pass when nothing is out, however large it is.
    """

    __slots__ = ("demand", "max_bytes", "sent", "sent_bytes", "size", "taken", "taken_bytes")

    def __init__(self, size: int, max_bytes: int, demand: int = UNLIMITED) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self.demand = demand
        self.taken = 0
        self.taken_bytes = 0
        self.sent = 0
        self.sent_bytes = 0

    def available(self) -> int:
        """How many values may be yielded now."""
        limit = self.taken + self.size
        if 0 <= self.demand < limit:
            limit = self.demand
        if self.sent_bytes - self.taken_bytes >= self.max_bytes:
            return 0
        return limit - self.sent

    def fits(self, size: int) -> bool:
        """Whether `size` more encoded bytes may go out."""
        out = self.sent_bytes - self.taken_bytes
        return out == 0 or out + size <= self.max_bytes

    def send(self, values: int, size: int) -> None:
        """Values went out."""
        self.sent += values
        self.sent_bytes += size

    def credit(self, taken: int, taken_bytes: int, demand: int) -> None:
        """The node said what was taken and asked for; what it said before is less."""
        self.taken = max(self.taken, taken)
        self.taken_bytes = max(self.taken_bytes, taken_bytes)
        if demand >= 0:
            self.demand = max(self.demand, demand)
