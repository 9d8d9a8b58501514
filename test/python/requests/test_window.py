"""The window's arithmetic, against a model that keeps every value."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from erlang_port.requests.window import UNLIMITED, Window


def test_a_window_admits_its_size() -> None:
    window = Window(3, 100)
    assert window.available() == 3
    window.send(2, 10)
    assert window.available() == 1
    window.credit(1, 5, UNLIMITED)
    assert window.available() == 2


def test_bytes_use_it_up_as_well() -> None:
    window = Window(10, 100)
    window.send(1, 99)
    assert window.available() == 9
    assert window.fits(1)
    assert not window.fits(2)
    window.send(1, 1)
    assert window.available() == 0
    window.credit(1, 99, UNLIMITED)
    assert window.available() == 9


def test_one_value_may_always_pass_when_nothing_is_out() -> None:
    window = Window(10, 100)
    assert window.fits(1_000_000)
    window.send(1, 1_000_000)
    assert not window.fits(1)
    assert window.available() == 0
    window.credit(1, 1_000_000, UNLIMITED)
    assert window.fits(1_000_000)
    assert window.available() == 10


def test_a_demand_limits_what_the_window_would_allow() -> None:
    window = Window(10, 100, 0)
    assert window.available() == 0
    window.credit(0, 0, 3)
    assert window.available() == 3
    window.send(3, 3)
    window.credit(3, 3, 100)
    assert window.available() == 10


def test_credit_that_is_late_or_repeated_does_no_harm() -> None:
    window = Window(2, 100, 5)
    window.send(2, 20)
    window.credit(2, 20, 8)
    window.credit(1, 10, 7)
    window.credit(2, 20, 8)
    assert (window.taken, window.taken_bytes, window.demand) == (2, 20, 8)


class WindowAndOwner(RuleBasedStateMachine):
    """A generator that yields when it may, and an owner that takes and asks at random.

    The node tells of what was taken in sums, and its telling may be late, lost or repeated.
    """

    @initialize(
        size=st.integers(1, 8),
        max_bytes=st.integers(1, 50),
        demand=st.none() | st.integers(0, 5),
    )
    def start(self, size: int, max_bytes: int, demand: int | None) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self.demand = demand
        self.window = Window(size, max_bytes, UNLIMITED if demand is None else demand)
        self.yielded = 0
        self.out: list[int] = []
        self.taken: list[int] = []
        self.grown = 0
        self.credits = [(0, 0, UNLIMITED if demand is None else demand)]

    @precondition(lambda self: self.window.available() > 0)
    @rule(size=st.integers(1, 80))
    def yield_one(self, size: int) -> None:
        if self.window.fits(size):
            self.window.send(1, size)
            self.yielded += 1
            self.out.append(size)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, len(self.out)))):
            self.taken.append(self.out.pop(0))

    @precondition(lambda self: self.demand is not None)
    @rule(more=st.integers(1, 5))
    def ask(self, more: int) -> None:
        assert self.demand is not None
        self.demand += more

    @rule(more=st.integers(1, 8))
    def grow(self, more: int) -> None:
        """The node's window becomes larger: as if so much more had been taken."""
        self.size += more
        self.grown += more

    @rule()
    def tell(self) -> None:
        demand = UNLIMITED if self.demand is None else self.demand
        self.credits.append((len(self.taken) + self.grown, sum(self.taken), demand))
        self.window.credit(*self.credits[-1])

    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        self.window.credit(*data.draw(st.sampled_from(self.credits)))

    @invariant()
    def never_more_is_out_than_may_be(self) -> None:
        if not hasattr(self, "window"):
            return
        assert len(self.out) <= self.size
        assert sum(self.out) <= self.max_bytes or len(self.out) == 1
        assert self.demand is None or self.yielded <= self.demand

    @invariant()
    def it_never_stays_closed(self) -> None:
        """When the owner has taken all, has asked for more and that was said, one may pass."""
        if not hasattr(self, "window") or self.out:
            return
        knows_all = self.credits[-1] == (
            len(self.taken) + self.grown,
            sum(self.taken),
            UNLIMITED if self.demand is None else self.demand,
        )
        if knows_all and (self.demand is None or self.demand > self.yielded):
            assert self.window.available() > 0
            assert self.window.fits(10**9)

    @invariant()
    def available_is_never_negative(self) -> None:
        if hasattr(self, "window"):
            assert self.window.available() >= 0


WindowAndOwner.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
TestWindowAndOwner = WindowAndOwner.TestCase
