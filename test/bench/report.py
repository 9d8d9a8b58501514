"""Writes docs/benchmarks.md and its plots from the figures of a run.

What people wrote on the page stays: only what lies between the two marks is replaced.

    python report.py FIGURES.json PAGE.md PLOTS_DIRECTORY MODE
"""

from __future__ import annotations

import os
import platform
import sys
from datetime import date
from pathlib import Path

from figures import REACHES, Figures, Key
from plots import plot_all

BEGIN = "<!-- From here to the next mark script/bench writes. -->"
END = "<!-- Written by script/bench up to here. -->"

FLAGS = {
    "default": "no flags: schedulers spin before they sleep, nothing is pinned",
    "no_spin": "`+sbwt none +sbwtdcpu none +sbwtdio none`: schedulers sleep at once",
    "one_core": "`taskset -c 0`: the node and Python share one core",
}

TITLES = {
    "ints": "Small integers, one stream, default window",
    "strings": "Strings of 7 bytes",
    "rows": "Rows of 4 fields: tuples of an integer, a string, a float and a boolean",
    "dicts": "The same fields as dictionaries",
    "batch": "`batch => 256`, small integers",
    "bytes_64k": "Binaries of 64 KiB",
    "bytes_1m": "Binaries of 1 MiB",
    "calls": "Call round trip: one small argument, one small result",
    "first": "First event of a new stream",
    "ticks": "A value every 10 ms: from `yield` to receipt",
    "ticks_beside": "The same beside a stream at full speed on the same worker",
    "calls_beside": "A call beside a stream at full speed on the same worker",
    "burst": "Last value of a burst of 100: from `yield` to receipt",
    "cancel": "Cancel: to the terminal event, and until `finally` has run",
    "many_100": "100 streams of 20 values 10 ms apart, one worker, until the last has ended",
    "many_1000": "1,000 streams of 5 values 100 ms apart, one worker",
    "many_10000": "10,000 streams of 5 values 100 ms apart, one worker",
    "asleep": "Owners asleep, by seconds, endless generators: growth of memory",
    "long": "One stream of 10,000,000 integers",
    "styles": "A call beside a Python port that one process owns, as erlport's is",
    "callers": "Calls a second through one worker, by the number of callers",
    "crowded": "A call beside 100 streams at full speed on the same worker",
    "sends": "Messages by `erlang.send`, beside the values of a stream",
    "callbacks": "Calls of an Erlang function, one by one, from a function and a coroutine",
    "ways": "Other ways in and out, small integers",
    "depth": "Erlang calls Python calls Erlang ..., by depth: one turn",
    "waiting": "10,000 calls of coroutines that all wait for the last one",
    "cost": "Processor time that the node and the writer use for an event, and time by the clock",
    "idle": "An idle stream, by how many there are on the worker",
    "streams": "Streams at full speed on one worker, together, by their number",
    "workers": "One stream at full speed on each worker, together, by the number of workers",
    "workers_computing": "The same with generators that compute for 10 us before each value",
    "workers_calls": "A call through a pool, by the number of workers",
    "sizes": "Binaries, by size in bytes",
    "sizes_arguments": "A call with a binary as its argument, by size in bytes",
    "sizes_calls": "A call with a binary there and back, by size in bytes",
    "types": "Rows of other types, beside rows of 4 fields: `None` or NaN in every other row, "
    "nested dictionaries, and rows of a table with `Decimal` and `datetime`",
    "tables": "Tables of 1,000 rows and 3 columns, one value each: as a dictionary of columns, "
    "and as what is installed of pandas and Arrow",
    "start": "A pool's start: until its workers are ready, beside an interpreter that does nothing",
    "memory": "Memory of each of eight idle workers (PSS: what they share is divided among them)",
    "crowd": "A call, a first event and a cancel, by the number of idle streams on the worker",
}

EXPLAINED = {
    "native": "a C program in Python's place that writes ready-made frames",
    "native_no_window": "the same without waiting for credit",
    "bare_pipe": "a C program behind a plain port, whose owner takes its frames",
    "echo": "a C program behind a plain port that writes each frame back",
    "one_frame_each": "a C program behind a plain port; a frame and a `binary_to_term` for each",
    "messages_alone": "the same messages from one Erlang process to another; no port, no Python",
    "generator_alone": "the generator in Python, exhausted by 256, nothing sent",
    "generator_and_erlpack": "the same, and `erlpack.pack` of each 256",
    "ideal": "by the clock alone",
}

#: What keeps a section's figures from being better, in a sentence.
BOUNDS = {
    "ints": "Bound by the node: each value is a message of its own.",
    "strings": "Bound by the node, and nearly as much by Python, which packs each string as UTF-8.",
    "rows": "Bound by Python, which encodes each field.",
    "dicts": "Bound by Python, keys included; without the accelerator by erlpack.",
    "batch": "Bound by Python: the generator, and the encoding of what it yields.",
    "bytes_64k": "Bound by the kernel's pipe, which both sides copy to and from.",
    "bytes_1m": "Bound by the kernel's pipe, which both sides copy to and from.",
    "calls": "Bound by two passages of a pipe, the wake-up of each side, and Python's own steps.",
    "first": "Bound as a call, with a process of the node's for the stream.",
    "ticks": "Bound by the kernel's timers and the wake-up of each side.",
    "ticks_beside": "Bound by the interpreter lock, which the other stream holds.",
    "calls_beside": "Bound by the interpreter lock, which the stream holds.",
    "many_1000": "Bound by the starts of threads, one for each sync stream.",
    "many_10000": "Bound by asyncio: a start, an end and five sleeps for each stream.",
    "streams": "Bound by Python: threads take turns at the interpreter lock, tasks at the loop.",
    "workers": "Bound by the cores.",
    "sizes_arguments": "Up to 4 KiB bound as a call, beyond by the pipe and the copy in Python.",
    "sizes_calls": "The same, both ways.",
    "types": "Bound by Python, which encodes a value that could change at its `yield`; `Decimal` "
    "and `datetime` are encoded by Python code.",
    "tables": "Bound by what a table costs to be taken apart; of bytes by the pipe.",
    "start": "Bound by the interpreter's start and the imports of the port program.",
    "memory": "Bound by the interpreter and what is imported; asyncio is imported by the first "
    "async call.",
    "callers": "Bound by the interpreter lock, and by who is woken on which core.",
    "callbacks": "Bound by two passages of the pipe, and a process of the node's for each call.",
}

#: What the others in a section stand beside; the first that is there.
CEILINGS = ("bare_pipe", "echo", "native", "ideal", "rows", "plain_table", "bare_interpreter")


def number(value: float) -> str:
    """A figure with three digits that mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.3f}"


def machine(figures: Figures) -> str:
    """What was measured, with what, on what."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line]
        cpu = models[0].split(":")[1].strip() if models else cpu
    versions = figures.versions
    return (
        f"{date.today().isoformat()}: {os.cpu_count()} cores, {cpu}, "
        f"{platform.system()} {platform.release()}; Erlang/OTP {versions['otp']} "
        f"(erts {versions['erts']}), CPython {versions['python']}, erlpack {versions['erlpack']}; "
        f"what encodes is `{versions.get('writer', 'erlpack')}`. "
        f"Load of the machine just before: {versions['load']}."
    )


def reach_table(figures: Figures) -> list[str]:
    """What is to be reached, and whether it is."""
    lines = ["| what | measured | reach | met |", "|---|---|---|---|"]
    for reach in REACHES:
        value = reach.figure(figures)
        if value is None:
            continue
        limit = ("at least " if reach.at_least else "at most ") + number(reach.limit_of(figures))
        met = "yes" if reach.is_met(value, figures) else "**no**"
        lines.append(f"| {reach.what} | {number(value)} {reach.unit} | {limit} | {met} |")
    return lines


def section_table(figures: Figures, section: str) -> list[str]:
    """All figures of a section, by flags, place and unit."""
    keys = figures.keys(section)
    series_here = {key[1] for key in keys}
    ceiling = next((name for name in CEILINGS if name in series_here), "")
    has_place = any(key[4] is not None for key in keys)
    has_flags = any(key[3] != "default" for key in keys)
    head = ["series", *(["at"] if has_place else []), *(["flags"] if has_flags else []), "unit"]
    head += [
        "median",
        "lowest to highest",
        *([f"of {ceiling}".replace("_", " ")] if ceiling else []),
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    order = {flags: place for place, flags in enumerate(FLAGS)}

    def by_place(key: Key) -> tuple[int, float, str, bool]:
        return order[key[3]], key[4] or 0, key[2], key[1] != ceiling

    for key in sorted(keys, key=by_place):
        _, series, unit, flags, place = key
        values = figures.values(*key)
        cells = [series.replace("_", " ")]
        cells += [f"{place:,.0f}"] if has_place and place is not None else [""] * has_place
        cells += [flags] if has_flags else []
        cells += [unit, number(figures.median(*key) or 0.0)]
        cells.append(f"{number(min(values))} to {number(max(values))}")
        if ceiling:
            ratio = None
            if not unit.startswith(("MiB", "last of")):
                ratio = figures.ratio(section, series, ceiling, unit, flags, place)
            cells.append("" if ratio is None else number(ratio))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def generated(figures: Figures, plots: list[tuple[str, str]], mode: str) -> str:
    """The part of the page that a run writes."""
    lines = [machine(figures), ""]
    if mode == "quick":
        lines += ["This was a quick run, with fewer values and 3 rounds: do not quote it.", ""]
    used = {key[3] for section in figures.sections() for key in figures.keys(section)}
    lines += ["Flags of the emulator:", ""]
    lines += [f"- {name}: {text}" for name, text in FLAGS.items() if name in used]
    lines += ["", "### Reach", "", *reach_table(figures), ""]
    for name, title in plots:
        lines += [f"![{title}](plots/{name})", ""]
    lines += ["### All figures", ""]
    lines += ["Ceilings and bounds:", ""]
    lines += [f"- {name.replace('_', ' ')}: {text}" for name, text in EXPLAINED.items()]
    lines.append("")
    for section in figures.sections():
        if section in TITLES:
            bound = [BOUNDS[section], ""] if section in BOUNDS else []
            lines += [f"#### {TITLES[section]}", "", *bound, *section_table(figures, section), ""]
    return "\n".join(lines)


def main(figures_file: str, page_file: str, plots_directory: str, mode: str) -> None:
    """Writes the page and the plots."""
    figures = Figures.of(Path(figures_file))
    plots = plot_all(figures, Path(plots_directory))
    page = Path(page_file)
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{generated(figures, plots, mode)}\n{END}{after}")
    print("\n".join(reach_table(figures)))


if __name__ == "__main__":
    main(*sys.argv[1:])
