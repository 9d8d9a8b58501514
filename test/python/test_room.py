"""What is under way, and who waits for it to be taken."""

from __future__ import annotations

from erlang_port.node.byte_window import ByteWindow


def test_one_item_more_than_the_limit_may_be_under_way():
    room = ByteWindow(10)
    room.sent += 9
    assert not room.is_full()
    room.sent += 100
    assert room.is_full()
    room.credit(99)
    assert room.is_full()
    room.credit(100)
    assert not room.is_full()


def test_an_older_credit_takes_nothing_back():
    room = ByteWindow(10)
    room.sent += 20
    room.credit(15)
    room.credit(5)
    assert room.taken == 15


def test_those_who_wait_are_rung_once():
    room = ByteWindow(10)
    room.sent += 10
    rung = []
    assert room.add_waiter(lambda: rung.append(1))
    assert room.add_waiter(lambda: rung.append(2))
    assert room.statistics()["waiting"] == 2
    room.credit(1)
    room.credit(2)
    assert rung == [1, 2]


def test_nobody_waits_for_room_that_is_there():
    room = ByteWindow(10)
    assert not room.add_waiter(lambda: None)
