"""A small language model: it learns which word follows which, and writes on from a prompt.

It learns from text that every machine with Python has: the language's own documentation.
"""

import ast
import random
import re
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

CONTEXT = 3  # Words that the model looks back at, at most.

# What followed each run of 0 to CONTEXT words, and how often.
followers: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)


def documentation() -> Iterator[tuple[str, str]]:
    """Name and documentation of each language topic and each module of the standard library."""
    from pydoc_data.topics import topics

    yield from topics.items()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_bytes())
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = (node for node in ast.walk(tree) if isinstance(node, documented))
        yield path.name, "\n".join(filter(None, map(ast.get_docstring, nodes)))


def train() -> Iterator[tuple[str, int, int]]:
    """Learn one text after the other; yield its name, and the words and contexts known so far."""
    words = 0
    for name, text in documentation():
        tokens = re.findall(r"\(?[\w'-]+|[.,:;!?)]", text)
        words += len(tokens)
        for at, token in enumerate(tokens):
            for length in range(min(CONTEXT, at) + 1):
                followers[tuple(tokens[at - length : at])][token] += 1
        yield name, words, len(followers)


def generate(prompt: str, seed: int = 0) -> Iterator[str]:
    """Yield one token after the other, without an end."""
    chooser = random.Random(seed)
    context = prompt.split()
    while True:
        known = (tuple(context[-length:]) for length in range(CONTEXT, 0, -1))
        counts = followers[next((c for c in known if c in followers), ())]
        token = chooser.choices(list(counts), list(counts.values()))[0]
        yield token if token in ".,:;!?)" else " " + token
        context = [*context[1 - CONTEXT :], token]


def sentences(prompt: str, count: int, seed: int = 0) -> Iterator[str]:
    """Yield tokens up to the end of that many sentences."""
    tokens = generate(prompt, seed)
    for _ in range(count):
        for token in islice(tokens, 60):
            yield token
            if token == ".":
                break
