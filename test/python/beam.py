"""A real Erlang node for the tests: decodes and encodes what it is sent."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

_SOURCE = Path(__file__).resolve().parents[1] / "support" / "test_terms_gen.erl"
_SIZE = struct.Struct(">I")


class Beam:
    """A node that runs test/support/test_terms_gen.erl; see there for the requests."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="beam-")
        subprocess.run(["erlc", "-o", self._directory, str(_SOURCE)], check=True)
        command = ["erl", "-noshell", "-noinput", "-pa", self._directory]
        self._process = subprocess.Popen(
            [*command, "-run", "test_terms_gen", "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to: IO[bytes] = self._process.stdin
        self._from: IO[bytes] = self._process.stdout

    def close(self) -> None:
        """Ends the node, by end of file."""
        self._to.close()
        self._process.wait(timeout=20)
        self._from.close()
        shutil.rmtree(self._directory)

    def round_trip(self, encoded: bytes) -> bytes | None:
        """term_to_binary(binary_to_term(encoded)); None where that is badarg."""
        self._write(b"r" + encoded)
        answer = self._read()
        return None if answer == b"badarg" else answer

    def terms(
        self, seed: int, count: int, way: int
    ) -> Iterator[tuple[bytes, Callable[[bytes], bool]]]:
        """The encodings of `count` random terms, each with the function that takes it back.

        That function must be called for each term, in order; it returns whether the term is still
        the same.
        """
        self._write(struct.pack(">cBII", b"s", way, seed, count))
        for encoded in [self._read() for _ in range(count)]:
            yield encoded, self._back

    def _back(self, encoded: bytes) -> bool:
        self._write(encoded)
        return self._read() == b"\1"

    def _write(self, data: bytes) -> None:
        self._to.write(_SIZE.pack(len(data)) + data)
        self._to.flush()

    def _read(self) -> bytes:
        size = _SIZE.unpack(self._from.read(4))[0]
        return self._from.read(size)
