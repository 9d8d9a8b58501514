"""The figures of one run of script/bench, and the reach that they are held to."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

Key = tuple[str, str, str, str, float | None]


class Figures:
    """Values by section, series, unit, flags and place on the axis; one for each round."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.versions: dict[str, str] = {}
        self._values: dict[Key, list[float]] = defaultdict(list)
        for line in lines:
            entry = json.loads(line)
            if entry["section"] == "versions":
                # Of the nodes of one run the first: later ones see the load that the run makes.
                self.versions.setdefault(entry["series"], entry["value"])
                continue
            key = (entry["section"], entry["series"], entry["unit"], entry["flags"], entry.get("x"))
            self._values[key].append(entry["value"])

    @classmethod
    def of(cls, path: Path) -> Figures:
        """Reads what a run wrote."""
        return cls(path.read_text().splitlines())

    def values(
        self, section: str, series: str, unit: str, flags: str = "default", x: float | None = None
    ) -> list[float]:
        """One value for each round; none where it was not measured."""
        return self._values.get((section, series, unit, flags, x), [])

    def median(
        self, section: str, series: str, unit: str, flags: str = "default", x: float | None = None
    ) -> float | None:
        """The median over the rounds."""
        values = self.values(section, series, unit, flags, x)
        return median(values) if values else None

    def ratio(
        self,
        section: str,
        series: str,
        ceiling: str,
        unit: str,
        flags: str = "default",
        x: float | None = None,
    ) -> float | None:
        """The median of the ratios of each round."""
        values = self.values(section, series, unit, flags, x)
        best = self.values(section, ceiling, unit, flags, x)
        if not values or len(values) != len(best):
            return None
        return median(value / other for value, other in zip(values, best, strict=True))

    def places(self, section: str, series: str, unit: str) -> list[float]:
        """Where on the axis there are figures."""
        found = {key[4] for key in self._values if key[:3] == (section, series, unit)}
        return sorted(x for x in found if x is not None)

    def keys(self, section: str) -> list[Key]:
        """All that was measured in a section, in the order of the run."""
        return [key for key in self._values if key[0] == section]

    def sections(self) -> list[str]:
        """All sections, in the order of the run."""
        return list(dict.fromkeys(key[0] for key in self._values))

    def last_place(self, section: str, series: str, unit: str) -> float | None:
        """The figure that lies furthest along the axis; the median of what lies there."""
        places = self.places(section, series, unit)
        return self.median(section, series, unit, x=places[-1]) if places else None


class Reach(NamedTuple):
    """What is to be reached: a value, beside what it is judged by, and how."""

    what: str
    figure: Callable[[Figures], float | None]
    unit: str
    limit: float
    at_least: bool
    #: The limit where the accelerator encodes, if that is another one.
    accelerated: float | None = None

    def limit_of(self, figures: Figures) -> float:
        """The limit for what has encoded in that run."""
        if self.accelerated is None or figures.versions.get("writer") != ACCELERATOR:
            return self.limit
        return self.accelerated

    def is_met(self, value: float, figures: Figures) -> bool:
        """Whether the value is good enough."""
        limit = self.limit_of(figures)
        return value >= limit if self.at_least else value <= limit


def _ratio(
    section: str,
    series: str,
    ceiling: str,
    unit: str,
    flags: str = "default",
    x: float | None = None,
) -> Callable[[Figures], float | None]:
    return lambda figures: figures.ratio(section, series, ceiling, unit, flags, x)


def _value(section: str, series: str, unit: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.median(section, series, unit)


def _worst(section: str, series: Iterable[str], unit: str) -> Callable[[Figures], float | None]:
    def worst(figures: Figures) -> float | None:
        found = [figures.median(section, one, unit) for one in series]
        return max((value for value in found if value is not None), default=None)

    return worst


def _last(section: str, series: str, unit: str) -> Callable[[Figures], float | None]:
    return lambda figures: figures.last_place(section, series, unit)


NATIVE = "of the native writer"
PIPE = "of the bare pipe"
ECHOES = "C echoes"
STREAM = "of a stream"
PLAIN = "of the time without"
#: What a pool says encodes, where the accelerator does.
ACCELERATOR = "accelerator"


def _of_native(section: str) -> Callable[[Figures], float | None]:
    return _ratio(section, "python", "native", "events/s")


def _together(series: str) -> Callable[[Figures], float | None]:
    return _ratio("streams", series, "native", "events/s", x=1000)


def _slower(plain: str, series: str) -> Callable[[Figures], float | None]:
    """Rates the other way round are times."""
    return _ratio("types", plain, series, "events/s")


REACHES = [
    Reach("small integers", _of_native("ints"), NATIVE, 0.9, True, 0.95),
    Reach("small integers", _value("ints", "python", "events/s"), "events/s", 2e6, True),
    Reach("short strings", _of_native("strings"), NATIVE, 0.9, True, 0.95),
    Reach("rows of 4 fields, tuples", _of_native("rows"), NATIVE, 0.5, True, 0.9),
    Reach("rows of 4 fields, dictionaries", _of_native("dicts"), NATIVE, 0.35, True, 0.85),
    Reach("tuples with `None`", _slower("rows", "rows_none"), PLAIN, 1.3, False, 1.1),
    Reach("dictionaries with `None`", _slower("dicts", "dicts_none"), PLAIN, 1.3, False, 1.1),
    Reach("dictionaries with NaN", _slower("dicts", "dicts_nan"), PLAIN, 1.3, False, 1.1),
    Reach("`batch => 256`", _of_native("batch"), NATIVE, 0.45, True, 0.7),
    Reach(
        "one async stream of integers",
        _ratio("streams", "async", "native", "events/s", x=1),
        NATIVE,
        0.5,
        True,
        0.65,
    ),
    Reach("1,000 sync streams at full speed", _together("sync"), NATIVE, 0.35, True, 0.4),
    Reach("1,000 async streams at full speed", _together("async"), NATIVE, 0.4, True, 0.5),
    Reach("64 KiB binaries", _ratio("bytes_64k", "python", "bare_pipe", "MB/s"), PIPE, 0.7, True),
    Reach("1 MiB binaries", _ratio("bytes_1m", "python", "bare_pipe", "MB/s"), PIPE, 0.7, True),
    Reach("a channel", _ratio("ways", "channel", "stream", "values/s"), STREAM, 0.5, True),
    Reach(
        "1 MiB there and back, p50",
        _ratio("sizes_calls", "python", "echo", "us p50", x=1048576),
        ECHOES,
        1.43,
        False,
    ),
    Reach(
        "first event, p50",
        _ratio("first", "python", "native", "us p50"),
        "of the C program in Python's place",
        3,
        False,
    ),
    Reach(
        "first event, p50, all on one core",
        _ratio("first", "python", "echo", "us p50", "one_core"),
        ECHOES,
        5,
        False,
        4,
    ),
    Reach(
        "call, p50",
        _ratio("calls", "python", "native", "us p50"),
        "of the C program in Python's place",
        2.5,
        False,
    ),
    Reach(
        "call, p50, all on one core",
        _ratio("calls", "python", "echo", "us p50", "one_core"),
        ECHOES,
        2.1,
        False,
        1.95,
    ),
    Reach("a worker is ready after", _value("start", "one_worker", "ms"), "ms", 45, False),
    Reach("idle worker, PSS of eight", _value("memory", "new", "MiB"), "MiB", 16, False),
    Reach("value every 10 ms, p99, sync", _value("ticks", "sync", "ms p99"), "ms", 2, False),
    Reach("value every 10 ms, p99, async", _value("ticks", "async", "ms p99"), "ms", 2, False),
    Reach(
        "the same beside a stream at full speed, sync",
        _value("ticks_beside", "sync", "ms p99"),
        "ms",
        20,
        False,
    ),
    Reach(
        "the same beside a stream at full speed, async",
        _value("ticks_beside", "async", "ms p99"),
        "ms",
        20,
        False,
    ),
    Reach("last of a burst of 100, p99, sync", _value("burst", "sleep", "ms p99"), "ms", 10, False),
    Reach(
        "last of a burst of 100, p99, async",
        _value("burst", "async_sleep", "ms p99"),
        "ms",
        10,
        False,
    ),
    Reach("100 sync streams", _value("many_100", "sync", "s"), "s", 0.3, False),
    Reach("100 async streams", _value("many_100", "async", "s"), "s", 0.3, False),
    Reach("1,000 sync streams", _value("many_1000", "sync", "s"), "s", 0.8, False),
    Reach("10,000 async streams", _value("many_10000", "async", "s"), "s", 2.5, False, 2),
    Reach(
        "owners asleep: growth of the node past the windows, all streams together",
        _last("asleep", "node_past_windows", "MiB"),
        "MiB",
        20,
        False,
    ),
    Reach(
        "owner asleep: growth of Python, integers",
        _last("asleep", "integers", "MiB"),
        "MiB",
        20,
        False,
    ),
    Reach(
        "owner asleep: growth of Python, 1 MiB values",
        _last("asleep", "blobs_1m", "MiB"),
        "MiB",
        20,
        False,
    ),
    Reach(
        "cancel to terminal event, p99",
        _worst("cancel", ("full_speed", "every_ms", "async_every_ms"), "ms p99"),
        "ms",
        5,
        False,
    ),
    Reach(
        "cancel until `finally` has run, p99",
        _worst("cancel", ("full_speed", "every_ms", "async_every_ms"), "ms finally p99"),
        "ms",
        50,
        False,
    ),
    Reach(
        "10,000,000 values: rate of the last tenth",
        _value("long", "python", "last of second tenth"),
        "of the second tenth",
        0.9,
        True,
    ),
    Reach(
        "10,000,000 values: growth of the node",
        _value("long", "python", "MiB node"),
        "MiB",
        5,
        False,
    ),
    Reach(
        "10,000,000 values: growth of Python",
        _value("long", "python", "MiB writer"),
        "MiB",
        5,
        False,
    ),
]
