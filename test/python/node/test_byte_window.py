"""What is under way, and who waits for it to be taken."""

from __future__ import annotations

from erlang_port.node.byte_window import ByteWindow


def test_one_item_more_than_the_limit_may_be_under_way():
    window = ByteWindow(10)
    window.sent += 9
    assert not window.is_full()
    window.sent += 100
    assert window.is_full()
    window.credit(99)
    assert window.is_full()
    window.credit(100)
    assert not window.is_full()


def test_an_older_credit_takes_nothing_back():
    window = ByteWindow(10)
    window.sent += 20
    window.credit(15)
    window.credit(5)
    assert window.taken == 15


def test_those_who_wait_are_woken_once():
    window = ByteWindow(10)
    window.sent += 10
    woken = []
    assert window.add_waiter(lambda: woken.append(1))
    assert window.add_waiter(lambda: woken.append(2))
    window.credit(1)
    window.credit(2)
    assert woken == [1, 2]


def test_nobody_waits_for_what_is_available():
    window = ByteWindow(10)
    assert not window.add_waiter(lambda: None)
