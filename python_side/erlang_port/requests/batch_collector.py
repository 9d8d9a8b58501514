"""Collects the values of a fast generator in C, and can be stopped from other threads."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from operator import itemgetter

from erlang_port.etf.erlpack_input import kinds_of
from erlang_port.hints import Any

#: Returns its second argument, at the price of a call from C to C.
_second: Callable[[None, Any], Any] = {}.get  # type: ignore[assignment]

#: Whether threads run at the same time (PEP 703).
_IS_FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


class BatchCollector:
    """The values of one batch after another, each as it was at its `yield`.

    The loop over the iterator runs in C: no bytecode of this program runs between two values.
    `map` takes one permit from a list before it asks for the next value, and an iterator over a
    list checks the list's length each time. So clearing the list, on any thread, ends the loop
    when the generator yields next, and no value that it has yielded is lost.
    """

    def __init__(
        self, fixed_types: frozenset[type], hold: Callable[[Any], Any], holder: Any = None
    ) -> None:
        """A value that is not of a fixed type is held by `holder`, or by `hold` if there is none.

        `holder` is the same, compiled; see erlang_accelerator.c.
        """
        #: What was collected and not taken away: other threads may take from its left end.
        self.pending: deque[Any] = deque()
        #: How many batches there were: by it the ticker knows one from the next.
        self.number = 0
        self._fixed_types = fixed_types
        self._holder = holder
        self._hold: Callable[[Any], Any] = holder or hold
        #: One for each value that the batch may still take.
        self._permits: list[None] = []
        #: Whether the last batch held values of one fixed type only.
        self._is_uniform = True
        #: The types of what `take` returned last.
        self.kinds: set[type] = set()

    def begin(self, length: int, size: int) -> None:
        """The next batch: of `length` values, or `size` encoded bytes, at the most."""
        self.number += 1
        self._permits = [None] * length
        if self._holder is not None:
            self._holder.begin(self._permits, size)

    def end(self) -> None:
        """Ends the batch when the generator yields next. From any thread."""
        self._permits.clear()

    def was_ended(self) -> bool:
        """Whether it was `end` that has ended the batch."""
        return not self._permits

    def collect(self, iterator: Iterator[Any]) -> None:
        """Appends to `pending` until the batch ends, or the iterator does.

        Raises what the iterator raises; what it yielded before is in `pending`.
        """
        pending = self.pending
        self.kinds.clear()
        is_alone = not pending
        values: Iterator[Any] = map(_second, self._permits, iterator)
        if _IS_FREE_THREADED:
            # There `extend` holds the lock of the deque while the generator computes, and whoever
            # wants to send what is pending would wait for that.
            fixed, hold = self._fixed_types, self._hold
            for value in values:
                pending.append(value if type(value) in fixed else hold(value))
            return
        if not self._is_uniform:
            pending.extend(map(self._hold, values))
            return
        # As long as values are of one fixed type no code runs for each. `groupby` keeps the
        # value that ends its first group, and the generator is not resumed before that one is
        # held. `chain` asks an iterator no more once it has ended, unlike `map` and `groupby`.
        groups = groupby(chain(values), type)
        first = next(groups, None)
        if first is None:
            return
        kind, group = first
        if kind in self._fixed_types:
            pending.extend(group)
            second = next(groups, None)
            if second is None:
                if is_alone:
                    self.kinds.add(kind)
                return
            group = second[1]
        self._is_uniform = False
        others = chain.from_iterable(map(itemgetter(1), groups))
        pending.extend(map(self._hold, chain(group, others)))

    def take(self) -> list[Any]:
        """All that is pending, while nobody collects."""
        values = list(self.pending)
        self.pending.clear()
        if values and not self.kinds:
            self.kinds = kinds_of(values)
            self._is_uniform = len(self.kinds) == 1 and self.kinds <= self._fixed_types
        return values

    def take_while_collecting(self) -> list[Any]:
        """The same while another thread collects: what is pending now."""
        return [self.pending.popleft() for _ in range(len(self.pending))]

    def put_back(self, values: list[Any]) -> None:
        """Puts values that were taken before those that came meanwhile."""
        self.pending.extendleft(reversed(values))
