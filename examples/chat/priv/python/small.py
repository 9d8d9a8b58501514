"""The demo's own model, examples/small_lm.py, at the pace of a large one."""

import random
import time
from collections.abc import Iterator

import small_lm

SECONDS_PER_TOKEN = 0.03

for _progress in small_lm.train():
    pass


def tokens(prompt: str) -> Iterator[str]:
    """Yield an answer, token by token."""
    for token in small_lm.sentences(prompt, count=4, seed=random.getrandbits(32)):
        time.sleep(SECONDS_PER_TOKEN)
        yield token
