"""The demo's model, step by step as the test says, and telling it what happens.

It runs in the worker. Each generator connects to the test's socket, gets how to run, and
reports each token before it yields it, and its end from its `finally` block.
"""

import os
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import Client

import small_lm

for _progress in small_lm.train():
    pass


def tokens(prompt: str) -> Iterator[str]:
    with Client(os.environ["WATCHED_SOCKET"], "AF_UNIX") as test:
        test.send(prompt)
        stepwise, words, pace = test.recv()
        model = small_lm.generate(prompt)
        token = ""
        try:
            while True:
                if stepwise:
                    while not test.poll(0.05):  # Between two polls it can be interrupted.
                        pass
                    command = test.recv()
                    if command == "end":
                        return
                    if command != "go":
                        raise RuntimeError(command)
                elif pace:
                    time.sleep(pace)
                if words == 1 or not token:
                    # Many words take long to make: they are the same each time.
                    token = "".join(islice(model, words))
                test.send(token)
                yield token
        finally:
            # The clock is the same in all processes of the machine.
            test.send(("closed", time.monotonic()))
