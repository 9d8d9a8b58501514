"""`erlang.Channel`, which a channel of the node's is in Python: values that Erlang sends.

::

    py:channel_send -> frames -> Channel, on the thread that reads
                                    `-> run -> whoever iterates

The values of a frame are decoded by whoever takes the first of them.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import length_hint

from erlang_port.etf.opaque import Pid
from erlang_port.etf.terms import Atom
from erlang_port.handover import EMPTY, END, Wake, next_value, next_value_async
from erlang_port.hints import Any, Final, Protocol

#: A channel is {py_channel, {Pid, Available}} in Erlang, where Available means nothing here.
TAG: Final = "py_channel"

_NOTHING: Final = object()


class Values(Protocol):
    """The values of one frame."""

    count: int

    def decode(self) -> list[Any]:
        """Decodes them."""


class Link(Protocol):
    """The way back to the channel's process."""

    def waiter(self) -> tuple[Wake, Wake]:
        """What wakes the calling thread, and what it then waits with."""

    def taken(self, count: int) -> None:
        """`count` values have been taken in all."""

    def closed(self) -> None:
        """Nobody wants more."""


class Channel:
    """Values that an Erlang process sends with ``py:channel_send``, in order.

    An iterator and an async iterator, for one reader or several that share the values: it waits
    while there is none, and ends when the channel is closed. When the Erlang process that owns it
    has failed before that, it raises ErlangError. The sender waits while its window is full of
    values that were not taken.

    `close`, the end of a ``with`` block, and the end of the object's life tell the sender that
    nobody wants more.
    """

    __slots__ = (
        "__weakref__",
        "_available",
        "_end",
        "_frames",
        "_is_closed",
        "_last",
        "_last_count",
        "_link",
        "_lock",
        "_quarter",
        "_reported",
        "_run",
        "_taken",
        "_turn",
        "_waiting",
        "pid",
    )

    def __init__(self, pid: Pid, available: Any, link: Link) -> None:
        #: The process that it is in Erlang.
        self.pid = pid
        self._available = available
        self._link = link
        #: Values of the frame that is being taken, but for the last of them.
        self._run: Iterator[Any] = iter(())
        self._last: Any = _NOTHING
        self._last_count = 0
        self._frames: deque[Values] = deque()
        self._end: Any = None
        self._is_closed = False
        self._waiting: list[Wake] = []
        #: Guards what the thread that reads changes, for a moment.
        self._lock = allocate_lock()
        #: Held by the reader that goes from one frame to the next.
        self._turn = allocate_lock()
        self._taken = self._reported = 0
        self._quarter = 1

    # The iterators.

    def __iter__(self) -> Iterator[Any]:
        # One of the same values that runs in C for as long as the values of a frame last.
        return chain.from_iterable(_Runs(self))

    def __next__(self) -> Any:
        for value in self._run:
            return value
        value = next_value(self._take, self._link.waiter)
        if value is END:
            raise StopIteration
        return value

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> Any:
        for value in self._run:
            return value
        value = await next_value_async(self._take)
        if value is END:
            raise StopAsyncIteration
        return value

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called here."""
        return self._is_closed

    def close(self) -> None:
        """Nobody wants more: whoever sends gets ``{error, closed}``, whoever iterates the end."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            is_over = self._end is not None
            self._end = END
            self._frames.clear()
            waiting, self._waiting = self._waiting, []
        self._last = _NOTHING
        deque(self._run, maxlen=0)  # Whoever iterates has it, too.
        for wake in waiting:
            wake()
        if not is_over:
            self._link.closed()

    def __enter__(self) -> Channel:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._is_closed:
            self.close()

    def __erlang__(self) -> Any:
        """Goes back as the channel that it is."""
        return Atom(TAG), (self.pid, self._available)

    def __repr__(self) -> str:
        return f"<erlang.Channel {self.pid!r}>"

    # From the thread that reads.

    def put(self, values: Values, quarter: int) -> None:
        """The values of a frame have come; after `quarter` of them the sender wants to know."""
        with self._lock:
            if self._end is not None:
                return
            self._quarter = quarter
            self._frames.append(values)
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    def end(self, error: Exception | None) -> None:
        """No more will come."""
        with self._lock:
            if self._end is not None:
                return
            self._end = error or END
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    # Of those that iterate.

    def _take(self, wake: Wake | None) -> Any:
        while True:
            run = self._next_run(wake)
            if run is EMPTY or run is END:
                return run
            for value in run:
                return value

    def _next_run(self, wake: Wake | None) -> Any:
        """Values to be taken from, which other readers may take from as well."""
        with self._turn:
            if length_hint(self._run):
                return self._run
            if self._last is not _NOTHING:
                value, self._last = self._last, _NOTHING
                self._count(self._last_count)
                return (value,)
            values = self._next_frame(wake)
            if values is None:
                return self._at_end()
            if values is EMPTY:
                return EMPTY
            self._open(values)
            return self._run

    def _next_frame(self, wake: Wake | None) -> Any:
        # Whoever waits has said what was taken: so no sender waits for a reader that waits. What
        # is said before the last frame is opened brings the next one in time.
        if len(self._frames) <= 1 and self._end is None:
            self._report()
        with self._lock:
            if self._frames:
                return self._frames.popleft()
            if self._end is not None:
                return None
            if wake is not None:
                self._waiting.append(wake)
            return EMPTY

    def _at_end(self) -> Any:
        end, self._end = self._end, END
        if end is END:
            return END
        try:
            raise end
        finally:
            del end  # Its traceback has this frame, and so would keep the channel.

    def _open(self, values: Values) -> None:
        try:
            run = values.decode()
        except BaseException:
            self._count(values.count)
            raise
        # Its frame counts as taken when its last value is.
        self._last = run.pop()
        self._last_count = values.count
        self._run = iter(run)

    def _count(self, count: int) -> None:
        self._taken += count
        if self._taken - self._reported >= self._quarter:
            self._report()

    def _report(self) -> None:
        if self._taken > self._reported and not self._is_closed:
            self._reported = self._taken
            self._link.taken(self._taken)


class _Runs:
    """What the values of a channel are taken from, one run after another."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __iter__(self) -> _Runs:
        return self

    def __next__(self) -> Iterable[Any]:
        channel = self._channel
        try:
            run = next_value(channel._next_run, channel._link.waiter)
        except BaseException as error:
            # An error here would be the end of the chain, but behind that of a value others come.
            return _fail(error)
        if run is END:
            raise StopIteration
        return run  # type: ignore[no-any-return]


def _fail(error: BaseException) -> Iterator[Any]:
    try:
        raise error
    finally:
        del error  # Its traceback has this frame.
    yield


Factory = Callable[[Pid, Any], Channel]

_factory: Factory | None = None


def connect(factory: Factory | None) -> None:
    """What makes a Channel from now on; with None, where no worker is, it stays a pair."""
    global _factory
    _factory = factory


def arrived(pid: Pid, available: Any) -> Any:
    """What {py_channel, {Pid, Available}} is here."""
    factory = _factory
    return (Atom(TAG), (pid, available)) if factory is None else factory(pid, available)
