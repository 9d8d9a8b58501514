"""The classes for terms that Python has no type for."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

from erlang_port.etf import terms
from erlang_port.etf.terms import (
    Atom,
    Bitstring,
    FrozenDict,
    FrozenList,
    Fun,
    ImproperList,
    MapKey,
    Pid,
    Port,
    Reference,
)

PID = Pid(b"Xw\x03a@b\0\0\0\x07\0\0\0\1\0\0\0\2")
OTHER_PID = Pid(b"Xw\x03a@b\0\0\0\x08\0\0\0\1\0\0\0\2")
OLD_PID = Pid(b"gd\0\x03a@b\0\0\0\x07\0\0\0\1\2")
PORT = Port(b"xw\x03a@b\0\0\0\0\0\0\0\x09\0\0\0\2")
REFERENCE = Reference(b"Z\0\2w\x03a@b\0\0\0\2\0\0\0\5\0\0\0\6")
OLD_REFERENCE = Reference(b"ew\x03a@b\0\0\0\4\2")
FUN = Fun(b"qw\x05listsw\x03mapa\x02")
BITS = Bitstring(b"\xa0", 3)
IMPROPER = ImproperList([1, 2], 3)
KEY = MapKey(b"a\1", 1)

EACH = [
    *(Atom("a"), PID, PORT, REFERENCE, OLD_REFERENCE, FUN, BITS, IMPROPER, KEY),
    *(FrozenList([1, FrozenList()]), FrozenDict({1: FrozenList()})),
]


@pytest.mark.parametrize("term", EACH, ids=repr)
class TestEach:
    def test_pickles_and_copies(self, term):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            back = pickle.loads(pickle.dumps(term, protocol))
            assert back == term
            assert type(back) is type(term)
            assert hash(back) == hash(term)
        assert copy.copy(term) == copy.deepcopy(term) == term

    def test_is_frozen(self, term):
        for name in ("raw", "data", "items", "anything"):
            with pytest.raises(AttributeError):
                setattr(term, name, 1)
            with pytest.raises(AttributeError):
                delattr(term, name)

    def test_cannot_be_subclassed(self, term):
        if not isinstance(term, (FrozenList, FrozenDict)):
            with pytest.raises(TypeError):
                type("Sub", (type(term),), {})

    def test_differs_from_the_others(self, term):
        assert [other for other in EACH if other == term] == [term]


def test_atom_is_its_name():
    atom = Atom("running")
    assert atom == "running"
    assert hash(atom) == hash("running")
    assert {"running": 1}[atom] == 1
    assert str(atom) == f"{atom}" == "running"
    assert type(str(atom)) is str
    assert repr(atom) == "Atom('running')"
    assert isinstance(atom, str)


def test_one_atom_for_each_name():
    assert Atom("one") is Atom("one")
    assert Atom(Atom("one")) is Atom("one")


@pytest.mark.parametrize("name", [b"a", 1, None])
def test_atom_is_made_from_str(name):
    with pytest.raises(TypeError, match="made from a str"):
        Atom(name)


def test_atom_of_255_characters_at_most():
    assert len(Atom("\U0001f600" * 255)) == 255
    with pytest.raises(ValueError, match="at most 255 characters, this one has 256"):
        Atom("a" * 256)


def test_atom_has_no_lone_surrogate():
    with pytest.raises(UnicodeEncodeError):
        Atom("\ud800")


def test_atoms_created_by_python_are_limited(monkeypatch):
    monkeypatch.setattr(terms, "_created_atoms", set())
    monkeypatch.setattr(terms, "_known_atoms", {})
    monkeypatch.setattr(terms, "MAX_CREATED_ATOMS", 3)
    received = [terms.received_atom(f"received{i}") for i in range(10)]
    assert [Atom(f"received{i}") for i in range(10)] == received
    for i in range(3):
        Atom(f"created{i}")
    with pytest.raises(ValueError, match="has made 3 atoms of its own"):
        Atom("created3")
    assert Atom("created0") == "created0"
    assert terms.received_atom("created3") is Atom("created3")


def test_a_loop_of_atoms_ends_at_the_stated_number():
    program = (
        "from erlang_port.etf.terms import Atom, MAX_CREATED_ATOMS\n"
        "try:\n"
        "    for i in range(10**9): Atom(str(i))\n"
        "except ValueError: print(i == MAX_CREATED_ATOMS == 10_000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True\n"


def test_reprs_say_what_they_are():
    assert repr(PID) == repr(OLD_PID) == "<erlang.Pid 7.1 of a@b>"
    assert repr(PORT) == "<erlang.Port 9 of a@b>"
    assert repr(REFERENCE) == "<erlang.Reference 6.5 of a@b>"
    assert repr(OLD_REFERENCE) == "<erlang.Reference 4 of a@b>"
    assert repr(FUN) == "<erlang.Fun lists:map/2>"
    assert repr(BITS) == "Bitstring(b'\\xa0', 3)"
    assert repr(IMPROPER) == "ImproperList([1, 2], 3)"
    assert repr(KEY) == "MapKey(1)"
    assert repr(FrozenList([1])) == "FrozenList([1])"
    assert repr(FrozenDict({1: 2})) == "FrozenDict({1: 2})"


def test_the_parts_of_opaque_terms():
    assert {PID.node, PORT.node, REFERENCE.node, OLD_REFERENCE.node} == {"a@b"}
    assert (FUN.module, FUN.arity) == ("lists", 2)


def test_the_same_term_in_another_encoding_is_the_same():
    assert OLD_PID == PID
    assert hash(OLD_PID) == hash(PID)
    latin1 = Fun(b"qd\0\x05listsd\0\x03mapa\x02")
    assert latin1 == FUN
    assert hash(latin1) == hash(FUN)
    assert latin1.raw != FUN.raw


def test_opaque_terms_are_ordered():
    assert PID < OTHER_PID
    assert OTHER_PID > PID
    assert sorted([OTHER_PID, PID]) == [PID, OTHER_PID]
    assert PID <= PID >= PID
    with pytest.raises(TypeError):
        assert PID < PORT
    assert Bitstring(b"\x80", 1) < BITS
    assert ImproperList([1], 2) < IMPROPER
    assert MapKey(b"a\2", 2) > KEY


@pytest.mark.parametrize("kind", [Pid, Port, Reference, Fun])
@pytest.mark.parametrize(
    "raw",
    [b"", b"a\1", b"X", b"Xw\x03a@b", PID.raw + b"\0", b"Z\0\0w\0" + bytes(4), b"Xw\1\xff" * 4],
)
def test_opaque_terms_are_never_made_of_other_bytes(kind, raw):
    with pytest.raises(ValueError, match=f"not the encoding of an Erlang {kind.__name__}"):
        kind(raw)


def test_bitstring_clears_what_is_left_of_the_last_byte():
    assert Bitstring(b"\xff", 3) == Bitstring(b"\xe0", 3)
    assert Bitstring(b"\xff", 3).data == b"\xe0"
    assert len(Bitstring(b"\xff\xff", 9)) == 9
    for data, size in [(b"", 1), (b"a", 0), (b"a", 9), (b"a", -1)]:
        with pytest.raises(ValueError, match="do not take"):
            Bitstring(data, size)


def test_improper_list_is_not_a_proper_one():
    with pytest.raises(ValueError, match="at least one"):
        ImproperList([], 1)
    with pytest.raises(ValueError, match="proper list"):
        ImproperList([1], [])
    assert IMPROPER.items == (1, 2)
    assert IMPROPER.tail == 3


def test_improper_list_hashes_where_its_elements_do():
    assert hash(IMPROPER) == hash(ImproperList((1, 2), 3))
    with pytest.raises(TypeError):
        hash(ImproperList([[]], 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.append(1),
        lambda v: v.extend([1]),
        lambda v: v.insert(0, 1),
        lambda v: v.pop(),
        lambda v: v.remove(1),
        lambda v: v.clear(),
        lambda v: v.sort(),
        lambda v: v.reverse(),
        lambda v: v.__setitem__(0, 1),
        lambda v: v.__delitem__(0),
        lambda v: v.__iadd__([1]),
        lambda v: v.__imul__(2),
    ],
)
def test_frozen_list_cannot_be_changed(change):
    value = FrozenList([1, 2])
    with pytest.raises(TypeError, match="immutable"):
        change(value)
    assert value == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update({1: 1}),
        lambda v: v.setdefault(3, 1),
        lambda v: v.pop(1),
        lambda v: v.popitem(),
        lambda v: v.clear(),
        lambda v: v.__setitem__(1, 1),
        lambda v: v.__delitem__(1),
        lambda v: v.__ior__({1: 1}),
    ],
)
def test_frozen_dict_cannot_be_changed(change):
    value = FrozenDict({1: 2})
    with pytest.raises(TypeError, match="immutable"):
        change(value)
    assert value == {1: 2}


def test_frozen_containers_equal_plain_ones():
    assert FrozenList([1, 2]) == [1, 2]
    assert FrozenDict({1: 2}) == {1: 2}
    assert hash(FrozenDict({1: 1, 2: 2})) == hash(FrozenDict({2: 2, 1: 1}))
    with pytest.raises(TypeError):
        FrozenList([[]])


def test_public_names_are_those_of_the_module():
    assert set(terms.__all__) >= {type(term).__name__ for term in EACH}
    assert all(hasattr(terms, name) for name in terms.__all__)
