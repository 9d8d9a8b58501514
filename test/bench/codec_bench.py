"""Times the codec against erlpack alone, msgpack, and itself without erlpack.

    .venv/bin/python test/bench/codec_bench.py

Prints microseconds, the best of several rounds, for one value of each kind. erlpack's decoder is
not compared: what it makes of a term is something else. A column is missing where its package is.
"""

from __future__ import annotations

import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python_side"))

from erlang_port.etf import decoder
from erlang_port.etf.encoder import Encoder, has_erlpack, ways

ROW = {
    "id": 17,
    "name": "Ann",
    "email": "ann@example.org",
    "age": 33,
    "city": "Oslo",
    "score": 1.5,
    "active": True,
    "phone": "12345678",
    "street": "Main Street 1",
    "note": "none",
}
ROW_WITH_NONES = ROW | {"phone": None, "street": None, "note": None}

VALUES: dict[str, Any] = {
    "integer": 17,
    "short string": "hello",
    "row": ROW,
    "row, 3 None of 10": ROW_WITH_NONES,
    "1,000 integers": list(range(1000)),
    "100 rows with None": [ROW_WITH_NONES] * 100,
    "64 KiB bytes": bytes(65536),
    "256 integers, as a run": list(range(256)),
    "100,000 integers": list(range(100_000)),
    "100 MiB bytes": bytes(100 << 20),
}


def microseconds(work: Callable[[], object]) -> float:
    """The best time of one call."""
    timer = timeit.Timer(work)
    once = timer.timeit(1)
    number = max(1, int(0.02 / max(once, 1e-7)))
    return min(timer.repeat(5, number)) / number * 1e6


def columns() -> dict[str, Callable[[str, Any], Callable[[], object]]]:
    """For each column: a function from a value's name and value to the work to time."""
    plain = Encoder(way="python")

    def encode(encoder: Encoder) -> Callable[[str, Any], Callable[[], object]]:
        def work(name: str, value: Any) -> Callable[[], object]:
            if "run" in name:
                return lambda: encoder.encode_run(value, 0, 1 << 20)
            if isinstance(value, bytes):
                return lambda: encoder.buffers(value)
            return lambda: encoder.encode(value)

        return work

    def decode(name: str, value: Any) -> Callable[[], object]:
        data = plain.encode(value)
        return lambda: decoder.decode(data, binaries="bytes" if isinstance(value, bytes) else "str")

    made: dict[str, Callable[[str, Any], Callable[[], object]]] = {
        way: encode(Encoder(way=way)) for way in ways()
    }
    if has_erlpack():
        import erlpack

        pack = erlpack.ErlangTermEncoder().pack
        made["erlpack alone"] = lambda name, value: lambda: pack(value)
    made["decode"] = decode
    try:
        import msgpack
    except ImportError:
        return made
    made["msgpack pack"] = lambda name, value: lambda: msgpack.packb(value)

    def unpack(name: str, value: Any) -> Callable[[], object]:
        data = msgpack.packb(value)
        return lambda: msgpack.unpackb(data)

    made["msgpack unpack"] = unpack
    return made


def main() -> None:
    """Prints the table."""
    made = columns()
    print(f"{'microseconds':<24}" + "".join(f"{title:>17}" for title in made))
    for name, value in VALUES.items():
        cells = [f"{microseconds(work(name, value)):17,.2f}" for work in made.values()]
        print(f"{name:<24}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
