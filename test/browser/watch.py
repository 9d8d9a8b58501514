"""What the generators in the worker do, as the tests see and steer it."""

import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from queue import Queue

SECONDS = 10.0  # Longest wait for anything.
ENDLESS = 5000  # As many tokens as no window and no buffer holds, in a test of those.


class Generation:
    """One generator, from its first token to its `finally` block."""

    def __init__(self, connection: Connection) -> None:
        self.prompt: str = connection.recv()
        self.made: list[str] = []
        self.closed_at = 0.0
        self._connection = connection
        self._changed = threading.Condition()

    def start(self, *, stepwise: bool = False, words: int = 1, pace: float = 0.0) -> None:
        """Say how it runs: token by token as it is asked, or by itself, `words` words a token."""
        self._connection.send((stepwise, words, pace))
        threading.Thread(target=self._follow, daemon=True).start()

    def tell(self, command: str) -> None:
        """Make one token (go), end (end), or fail with these words."""
        self._connection.send(command)

    def step(self) -> None:
        """Have one token made."""
        count = len(self.made)
        self.tell("go")
        self.wait_until(lambda: len(self.made) > count)

    def text(self) -> str:
        return "".join(self.made)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, SECONDS)

    def wait_closed(self) -> float:
        """When its `finally` block ran, by time.monotonic()."""
        self.wait_until(lambda: self.closed_at > 0)
        return self.closed_at

    def wait_stalled(self, seconds: float) -> int:
        """How many tokens it has made when it has made none for `seconds` seconds."""
        with self._changed:
            while self._changed.wait(seconds):
                assert len(self.made) < ENDLESS, f"{len(self.made)} tokens, and no end"
            return len(self.made)

    def _follow(self) -> None:
        try:
            while True:
                match self._connection.recv():
                    case str(token):
                        with self._changed:
                            self.made.append(token)
                            self._changed.notify_all()
                    case (_, moment):
                        with self._changed:
                            self.closed_at = moment
                            self._changed.notify_all()
        except EOFError:
            return


class Watch:
    """Where the generators in the worker connect to."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._listener = Listener(self.address, "AF_UNIX")
        self._generations: Queue[Generation] = Queue()
        threading.Thread(target=self._accept, daemon=True).start()

    def next(self, prompt: str) -> Generation:
        generation = self._generations.get(timeout=SECONDS)
        assert generation.prompt == prompt
        return generation

    def _accept(self) -> None:
        while True:
            self._generations.put(Generation(self._listener.accept()))
