"""erlang.testing: a node for tests; as a fixture, with unittest, and for type checkers."""

from __future__ import annotations

import asyncio
import dataclasses
import decimal
import re
import shutil
import subprocess
import sys
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import erlang
from beam import Beam
from erlang.testing import ErlangNode, fun, pid, port, reference
from erlang.testing._text import text_of


def test_what_is_sent_is_listed(erlang_node: ErlangNode) -> None:
    owner, other = erlang_node.pid(), erlang_node.pid()
    erlang.send(owner, (erlang.Atom("progress"), 1, 3))
    erlang.send(other, "hello")
    erlang.send(owner, b"\xff")
    erlang.send(("shop", "a@b"), None)
    assert erlang_node.sent(owner) == [("progress", 1, 3), b"\xff"]
    assert erlang_node.sent(other) == ["hello"]
    assert erlang_node.sent(("shop", "a@b")) == [None]
    assert erlang_node.sent("nobody") == []
    assert [to for to, _ in erlang_node.sent()] == [owner, other, owner, ("shop", "a@b")]


def test_a_message_is_what_it_was_when_it_was_sent(erlang_node: ErlangNode) -> None:
    row = [1, {"deep": [2]}]
    erlang.send("log", row)
    row[1]["deep"].append(3)  # type: ignore[index]
    assert erlang_node.sent("log") == [[1, {"deep": [2]}]]


@pytest.mark.parametrize("to", [7, None, ("a",), ("a", 1), fun("m", "f", 1)])
def test_a_message_needs_a_receiver(erlang_node: ErlangNode, to: Any) -> None:
    with pytest.raises(TypeError, match="a message goes to"):
        erlang.send(to, 1)


def test_what_has_no_type_in_erlang_cannot_be_sent(erlang_node: ErlangNode) -> None:
    with pytest.raises(TypeError, match="__erlang__"):
        erlang.send("log", object())
    assert erlang_node.sent() == []


def test_a_process_has_a_name(erlang_node: ErlangNode) -> None:
    shop = erlang_node.pid("shop")
    erlang.send("shop", 1)
    erlang.send(shop, 2)
    erlang.send(erlang.Atom("shop"), 3)
    assert erlang_node.sent("shop") == erlang_node.sent(shop) == [1, 2, 3]
    assert erlang.whereis("shop") == shop
    assert erlang.whereis("nobody") is None


def test_calls_are_answered_by_functions_of_the_test(erlang_node: ErlangNode) -> None:
    erlang_node.register("price", lambda item, *more: {item: (1.5, *more), "seen": b"text"})
    expected = {"tea": (1.5, 2), "seen": "text"}
    assert erlang.call("price", "tea", 2) == expected
    assert erlang.price("tea", 2, timeout=1) == expected
    from erlang import price

    assert price("tea") == {"tea": (1.5,), "seen": "text"}
    assert asyncio.run(erlang.acall("price", "tea", 2)) == expected
    assert erlang_node.calls("price") == [("tea", 2), ("tea", 2), ("tea",), ("tea", 2)]


def test_what_the_function_raises_is_raised(erlang_node: ErlangNode) -> None:
    def refuse() -> None:
        raise erlang.ErlangError("error", "badarg")

    erlang_node.register("refuse", refuse)
    with pytest.raises(erlang.ErlangError, match="badarg"):
        erlang.call("refuse")


def test_an_async_function_is_for_acall(erlang_node: ErlangNode) -> None:
    async def price(item: str) -> int:
        await asyncio.sleep(0)
        return len(item)

    erlang_node.register("price", price)
    assert asyncio.run(erlang.acall("price", "tea")) == 3
    with pytest.raises(TypeError, match="acall"):
        erlang.call("price", "tea")


def test_a_function_that_is_not_there(erlang_node: ErlangNode) -> None:
    with pytest.raises(erlang.ErlangError, match=r'\{not_registered,<<"price">>\}') as raised:
        erlang.call("price", 1)
    assert raised.value.reason == ("not_registered", "price")
    with pytest.raises(ImportError, match="no function 'price' is registered"):
        from erlang import price  # noqa: F401
    erlang_node.register("price", int)
    erlang_node.unregister("price")
    with pytest.raises(AttributeError, match="no function 'price' is registered"):
        erlang.price  # noqa: B018


def test_what_would_hold_up_the_loop_is_refused(erlang_node: ErlangNode) -> None:
    async def main() -> None:
        for use in (lambda: erlang.call("price"), lambda: erlang.whereis("shop")):
            with pytest.raises(RuntimeError, match="acall"):
                use()
        await erlang.drain()

    erlang_node.register("price", int)
    asyncio.run(main())


def numbers() -> Iterator[int]:
    number = 0
    while not erlang.cancelled():
        yield number
        number += 1


def test_the_running_stream(erlang_node: ErlangNode) -> None:
    stream = erlang.stream()
    assert stream is not None
    assert stream.owner == erlang_node.owner
    assert stream.reference == erlang_node.stream_reference
    assert not stream.cancelled()
    source = numbers()
    assert [next(source), next(source)] == [0, 1]
    erlang_node.cancel()
    assert list(source) == []
    assert stream.cancelled()
    with erlang_node.in_call():
        assert erlang.stream() is None
        assert erlang.cancelled()


def test_it_is_there_in_tasks_and_threads(erlang_node: ErlangNode) -> None:
    async def owner() -> Any:
        erlang.send("log", 1)
        return await asyncio.to_thread(lambda: erlang.stream())

    assert asyncio.run(owner()) is not None
    assert list(erlang.from_callback(lambda put: put(erlang.cancelled()))) == [False]
    thread = threading.Thread(target=lambda: erlang.send("log", 2))
    thread.start()
    thread.join()
    assert erlang_node.sent("log") == [1, 2]


def test_terms_can_be_made(erlang_node: ErlangNode) -> None:
    made = [erlang_node.pid(), erlang_node.reference(), erlang_node.port(), fun("lists", "map", 2)]
    kinds = [erlang.Pid, erlang.Reference, erlang.Port, erlang.Fun]
    assert [type(term) for term in made] == kinds
    assert erlang_node.roundtrip(made) == made
    assert len({pid(), pid(), pid(7), pid(7), reference(), reference(), port(), port()}) == 7
    assert pid(7).node == "nonode@nohost"
    assert reference(1, 2, node="a@b").node == "a@b"


@dataclasses.dataclass
class Money:
    amount: decimal.Decimal
    currency: str


class Point:
    def __erlang__(self) -> Any:
        return (erlang.Atom("point"), 1, 2)


@pytest.mark.parametrize(
    ("value", "text", "back"),
    [
        ({"size": 1.5}, '#{<<"size">> => 1.5}', {"size": 1.5}),
        ([1, -2, 2**70], "[1,-2,1180591620717411303424]", [1, -2, 2**70]),
        ([97, 98], "[97,98]", [97, 98]),
        ((), "{}", ()),
        ([], "[]", []),
        (None, "none", None),
        ((True, erlang.Atom("it's"), erlang.Atom("end")), r"{true,'it\'s','end'}", None),
        ("", "<<>>", ""),
        ('a\n"b"', r'<<"a\n\"b\"">>', 'a\n"b"'),
        ("h\u00e9", '<<"h\u00e9"/utf8>>', "h\u00e9"),
        (1e30, "1.0e30", 1e30),
        (float("inf"), "infinity", "infinity"),
        (erlang.ImproperList((1,), 2), "[1|2]", None),
        (erlang.Bitstring(b"\xa0", 3), "<<5:3>>", None),
        (
            Money(decimal.Decimal("1.10"), "EUR"),
            '#{<<"amount">> => <<"1.10">>, <<"currency">> => <<"EUR">>}',
            {"amount": "1.10", "currency": "EUR"},
        ),
        (Point(), "{point,1,2}", ("point", 1, 2)),
        (pid(7), "<0.7.0>", pid(7)),
        (reference(3, 2, 1), "#Ref<0.1.2.3>", reference(3, 2, 1)),
        (port(5, node="a@b"), "#Port<a@b.5>", port(5, node="a@b")),
        (fun("lists", "map", 2), "fun lists:map/2", fun("lists", "map", 2)),
    ],
)
def test_how_values_cross(erlang_node: ErlangNode, value: Any, text: str, back: Any) -> None:
    assert erlang_node.crosses(value) == text
    assert back is None or erlang_node.roundtrip(value) == back


def test_what_does_not_cross_says_why(erlang_node: ErlangNode) -> None:
    with pytest.raises(TypeError, match="cannot send a value of type"):
        erlang_node.crosses({"deep": [object()]})
    with pytest.raises(TypeError, match="only a stream's own generator is iterated"):
        erlang_node.roundtrip(iter([]))
    with pytest.raises(UnicodeDecodeError):
        erlang_node.roundtrip(b"\xff")
    assert erlang_node.roundtrip(b"\xff", binaries="bytes") == b"\xff"


def test_none_is_what_the_pool_says() -> None:
    assert ErlangNode(none="undefined").crosses(None) == "undefined"


_OPAQUE = re.compile(r"#(Ref|Port|Fun)<|<\w*[@.\w]*\.\d+\.\d+>|fun ")

_READER = """
{ok, File} = file:open("terms", [read, binary]),
Read = fun(Text) ->
    {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text) ++ "."),
    {ok, Expressions} = erl_parse:parse_exprs(Tokens),
    {value, Term, _} = erl_eval:exprs(Expressions, []),
    Term
end,
Check = fun Check(N) ->
    case file:read_line(File) of
        eof -> io:format("~b", [N]);
        {ok, Line} ->
            Hexes = binary:split(string:trim(Line), <<" ">>),
            [Encoded, Text] = [binary:decode_hex(Hex) || Hex <- Hexes],
            Term = binary_to_term(Encoded),
            Term =:= Read(Text) orelse io:format("~ts is not ~tp~n", [Text, Term]),
            Check(N + 1)
    end
end,
Check(0), halt().
"""


def test_the_text_is_the_term_in_erlang(tmp_path: Path) -> None:
    """Erlang reads the texts of random terms of its own as those terms."""
    beam = Beam()
    lines = []
    try:
        for encoded, back in beam.terms(1, 300, 0):
            back(encoded)
            if encoded[1] == 80:
                continue  # Compressed, which nothing that Python sends is.
            text = text_of(encoded)
            if not _OPAQUE.search(text):
                lines.append(f"{encoded.hex()} {text.encode().hex()}\n")
    finally:
        beam.close()
    (tmp_path / "terms").write_text("".join(lines))
    command = ["erl", "-noshell", "-eval", _READER]
    read = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(lines) > 100
    assert read.stdout == str(len(lines))


class WithUnittest(unittest.TestCase):
    def setUp(self) -> None:
        self.node = ErlangNode().start()
        self.addCleanup(self.node.stop)

    def test_it_works(self) -> None:
        erlang.send(self.node.owner, 1)
        assert self.node.sent(self.node.owner) == [1]


def test_it_works_with_unittest_and_is_gone_afterwards() -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(WithUnittest).run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    with pytest.raises(RuntimeError, match="no worker"):
        erlang.send("log", 1)
    assert erlang.stream() is None


def test_a_node_starts_once(erlang_node: ErlangNode) -> None:
    with pytest.raises(RuntimeError, match="runs already"):
        erlang_node.start()


# What a user has: a module, its tests, and nothing else.

SHOP = """
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import erlang
from erlang import price


class Money:
    def __init__(self, amount: str) -> None:
        self.amount = amount

    def __erlang__(self) -> Any:
        return (erlang.Atom("eur"), self.amount)


def as_term(value: erlang.SupportsErlang) -> Any:
    return value.__erlang__()


def totals(items: list[str], progress: erlang.Pid) -> Iterator[float]:
    total = 0.0
    for number, item in enumerate(items):
        if erlang.cancelled():
            return
        total += float(price(item, timeout=1.0))
        erlang.send(progress, (erlang.Atom("done"), number))
        yield total


async def total(items: list[str]) -> float:
    return sum([float(await erlang.acall("price", item)) for item in items])


def tokens(prompt: str) -> Iterator[str]:
    def model(prompt: str, on_token: Any) -> None:
        for word in prompt.split():
            if on_token(word):
                break

    for token in erlang.from_callback(model, prompt, maxsize=2):
        yield str(token)


async def tokens_async(prompt: str) -> AsyncIterator[str]:
    def model(on_token: Callable[[str], bool]) -> None:
        on_token(prompt)

    async for token in erlang.afrom_callback(model):
        yield str(token)


def words(chunks: erlang.Channel) -> Iterator[str]:
    for chunk in chunks:
        yield str(chunk)


async def words_async(chunks: erlang.Channel) -> AsyncIterator[str]:
    with chunks:
        async for chunk in chunks:
            yield str(chunk)


def who() -> tuple[erlang.Pid, erlang.Reference] | None:
    stream = erlang.stream()
    return None if stream is None else (stream.owner, stream.reference)


AMOUNT = as_term(Money("1.10"))
"""

TEST_SHOP = """
import asyncio

import pytest

import erlang
from erlang.testing import ErlangNode

import shop


def test_totals(erlang_node: ErlangNode) -> None:
    def price(item: str) -> float:
        return {"tea": 2, "cake": 3.5}[item]

    erlang_node.register("price", price)
    to = erlang_node.pid()
    assert list(shop.totals(["tea", "cake"], to)) == [2.0, 5.5]
    assert erlang_node.sent(to) == [("done", 0), ("done", 1)]
    assert asyncio.run(shop.total(["tea"])) == 2.0


def test_a_cancel(erlang_node: ErlangNode) -> None:
    erlang_node.register("price", lambda item: 3)
    erlang_node.register("between", lambda low, high: (low + high) / 2)
    erlang_node.register("now", lambda: 0.0)
    erlang_node.register("largest", max)
    totals = shop.totals(["tea", "tea"], erlang_node.pid())
    assert next(totals) == 3
    erlang_node.cancel()
    assert list(totals) == []


def test_an_error(erlang_node: ErlangNode) -> None:
    with pytest.raises(erlang.ErlangError):
        next(shop.totals(["tea"], erlang_node.pid()))
    assert erlang_node.crosses(shop.Money("1.10")) == '{eur,<<"1.10">>}'
    assert erlang_node.roundtrip(shop.Money("1.10")) == ("eur", "1.10")
    assert list(shop.tokens("a b c")) == ["a", "b", "c"]
    assert shop.who() == (erlang_node.owner, erlang_node.stream_reference)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TEST_SHOP)
    return tmp_path


def run(project: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pytest_of_a_project_finds_the_fixture(project: Path) -> None:
    """By the entry point alone: the project has neither a conftest.py nor any setting."""
    output = run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "3 passed" in output


def test_mypy_finds_no_fault_in_a_project(project: Path) -> None:
    output = run(project, sys.executable, "-m", "mypy", "--strict", "--config-file=", ".")
    assert "no issues found in 2 source files" in output


PYRIGHT = shutil.which("basedpyright", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(PYRIGHT is None, reason="basedpyright, which contains pyright, is not there")
def test_pyright_finds_no_fault_in_a_project(project: Path) -> None:
    # The strict mode of pyright itself; basedpyright's own rules stay out.
    (project / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    assert PYRIGHT is not None
    output = run(project, PYRIGHT, "--pythonpath", sys.executable)
    assert "0 errors" in output


def test_the_example_of_the_documentation_passes(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
    for name in ("shop_totals.py", "test_shop_totals.py", "test_with_unittest.py"):
        _, _, behind = page.partition(f"<!-- defines: {name} -->\n```python\n")
        (tmp_path / name).write_text(behind.partition("\n```")[0] + "\n")
    output = run(tmp_path, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "5 passed" in output
