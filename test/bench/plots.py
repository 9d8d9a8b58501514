"""The plots of docs/benchmarks.md, as SVG by matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from figures import Figures

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter

CEILING = "#9aa0a6"
OURS = "#1a73e8"
ASYNC = "#e8710a"
BOUND = "#5f6368"

#: What the legend leaves out.
UNNAMED = "_"

#: The same input gives the same file, and text stays text.
STYLE: Any = {
    "svg.hashsalt": "erlang_python",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e0e0e0",
    "legend.frameon": False,
}


def plot_all(figures: Figures, directory: Path) -> list[tuple[str, str]]:
    """Draws what was measured; file names and titles."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = []
    with mpl.rc_context(STYLE):
        for name, title, draw in PLOTS:
            if figure := draw(figures):
                figure.savefig(directory / name, metadata={"Date": None}, bbox_inches="tight")
                plt.close(figure)
                drawn.append((name, title))
    return drawn


def _rates(figures: Figures) -> Any:
    kinds = [
        ("ints", "integers"),
        ("strings", "strings"),
        ("rows", "rows"),
        ("dicts", "dictionaries"),
        ("batch", "batch => 256"),
    ]
    kinds = [kind for kind in kinds if figures.median(kind[0], "python", "events/s")]
    if not kinds:
        return None
    figure, axes = plt.subplots(figsize=(7, 3.2))
    for place, (section, _) in enumerate(kinds):
        native = figures.median(section, "native", "events/s") or 0
        ours = figures.median(section, "python", "events/s") or 0
        bound = figures.median(section, "generator_and_erlpack", "events/s")
        first = place == 0
        axes.bar(
            place - 0.2, native, 0.38, color=CEILING, label="native writer" if first else UNNAMED
        )
        axes.bar(place + 0.2, ours, 0.38, color=OURS, label="Python" if first else UNNAMED)
        axes.text(place + 0.2, ours, f"{ours / 1e6:.1f}", ha="center", va="bottom", fontsize=8)
        axes.text(place - 0.2, native, f"{native / 1e6:.1f}", ha="center", va="bottom", fontsize=8)
        if bound:
            axes.hlines(
                bound,
                place - 0.4,
                place + 0.4,
                color=BOUND,
                linestyles="dashed",
                label="generator and erlpack alone, no port" if first else UNNAMED,
            )
    axes.set_xticks(range(len(kinds)), [label for _, label in kinds])
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylabel("events a second")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return figure


def _lines(
    axes: Any, figures: Figures, section: str, unit: str, series: dict[str, tuple[str, str]]
) -> bool:
    """One line for each series over the section's axis, with the range of the rounds."""
    drawn = False
    for name, (label, color) in series.items():
        places = figures.places(section, name, unit)
        if not places:
            continue
        drawn = True
        rounds = [figures.values(section, name, unit, x=x) for x in places]
        medians = [figures.median(section, name, unit, x=x) for x in places]
        axes.plot(places, medians, marker="o", markersize=3, color=color, label=label)
        low, high = [min(r) for r in rounds], [max(r) for r in rounds]
        axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0)
    return drawn


def _log(axes: Any, x: str, y: str, log_y: bool = True) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend()


def _sizes(figures: Figures) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    series = {
        "bare_pipe": ("bare pipe", CEILING),
        "native": ("native writer", BOUND),
        "python": ("Python", OURS),
    }
    if not _lines(left, figures, "sizes", "MB/s", series):
        return None
    _log(left, "bytes in a value", "MB a second, one stream")
    calls = {"echo": ("C echo", CEILING), "python": ("call", OURS)}
    _lines(right, figures, "sizes_calls", "us p50", calls)
    _log(right, "bytes there and back", "microseconds, p50")
    return figure


def _latencies(figures: Figures) -> Any:
    if not figures.median("calls", "python", "us p50"):
        return None
    figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
    for axes, section, title in zip(
        panels, ("calls", "first"), ("call", "first event"), strict=True
    ):
        for place, flags in enumerate(("default", "no_spin", "one_core")):
            for shift, (series, color) in enumerate(
                [("echo", CEILING), ("native", BOUND), ("python", OURS)]
            ):
                low = figures.median(section, series, "us p50", flags)
                high = figures.median(section, series, "us p99", flags)
                if low is None or high is None:
                    continue
                at = place + (shift - 1) * 0.25
                axes.bar(at, low, 0.23, color=color, label=series if place == 0 else UNNAMED)
                axes.vlines(at, low, high, color=color, linewidth=1)
                axes.text(at, low, f"{low:.0f}", ha="center", va="bottom", fontsize=7)
        axes.set_xticks(range(3), ["default", "no spinning", "one core"])
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", visible=False)
    panels[0].set_ylabel("microseconds: p50, line to p99")
    panels[0].legend()
    return figure


def _growth(figures: Figures) -> Any:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
    series = {
        "native": ("native writer", CEILING),
        "sync": ("sync generators", OURS),
        "async": ("async generators", ASYNC),
    }
    if not _lines(left, figures, "streams", "events/s", series):
        return None
    _log(left, "streams on one worker", "events a second, all together", log_y=False)
    workers = {"native": ("native writer", CEILING), "python": ("Python", OURS)}
    computing = {"python": ("Python, 10 us of computing for each value", OURS)}
    panels = ((middle, "workers", workers), (right, "workers_computing", computing))
    for axes, section, lines in panels:
        if not _lines(axes, figures, section, "events/s", lines):
            continue
        axes.set_xlabel("workers, one stream on each")
        axes.set_xticks(figures.places(section, "python", "events/s"))
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylim(bottom=0)
        axes.legend()
    return figure


def _crowd(figures: Figures) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    series = {
        "echo": ("C echo", CEILING),
        "call": ("call", OURS),
        "first": ("first event", ASYNC),
        "cancel": ("cancel", BOUND),
    }
    if not _lines(left, figures, "crowd", "us p50", series):
        return None
    left.set_xscale("symlog", linthresh=10)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    left.set_ylim(bottom=0)
    left.set_xlabel("idle streams on the worker")
    left.set_ylabel("microseconds, p50")
    left.legend()
    idle = {
        "sync": ("sync, Python's side", OURS),
        "async": ("async, Python's side", ASYNC),
    }
    _lines(right, figures, "idle", "bytes Python", idle)
    _lines(right, figures, "idle", "bytes node", {"async": ("either, the node's side", CEILING)})
    _log(right, "idle streams on the worker", "bytes for each", log_y=False)
    return figure


def _memory(figures: Figures) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    series = {
        "node_past_windows": ("node past the windows, all streams", CEILING),
        "integers": ("Python, integers", OURS),
        "blobs_1m": ("Python, 1 MiB values", ASYNC),
    }
    if not _lines(left, figures, "asleep", "MiB", series):
        return None
    left.axhline(20, color=BOUND, linestyle="dashed", linewidth=1)
    left.set_ylim(-5, 30)
    left.set_xlabel("seconds with the owners asleep")
    left.set_ylabel("growth in MiB")
    left.legend()
    tenths = {"native": ("native writer", CEILING), "python": ("Python", OURS)}
    _lines(right, figures, "long_tenths", "events/s", tenths)
    right.set_xlabel("tenth of a stream of 10,000,000 integers")
    right.set_ylabel("events a second")
    right.yaxis.set_major_formatter(EngFormatter(sep=""))
    right.set_ylim(bottom=0)
    right.legend()
    return figure


PLOTS: list[tuple[str, str, Callable[[Figures], Any]]] = [
    ("rates.svg", "Events a second of one stream", _rates),
    ("latencies.svg", "Calls and first events beside a C echo", _latencies),
    ("sizes.svg", "Bytes a second and round trips, by size", _sizes),
    ("growth.svg", "Rates by the number of streams and of workers", _growth),
    ("crowd.svg", "Latencies and memory by the number of idle streams", _crowd),
    ("memory.svg", "Memory with sleeping owners; the rate of a long stream", _memory),
]
