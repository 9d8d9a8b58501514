"""Compares the figures of two commits, which script/bench --against has measured in turns.

    python against.py HERE THERE

Each is a file of figures. For every series: both medians, their ratio, and the lowest and highest
ratio of any turn, which says how far chance goes on this machine.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

Turns = dict[tuple[Any, ...], list[float]]


def turns(path: str) -> Turns:
    """The median of each turn, by series; turns are apart by lines that say ``turn``."""
    found: Turns = defaultdict(list)
    values: Turns = defaultdict(list)
    lines = [*Path(path).read_text().splitlines(), "turn"]
    for line in lines:
        if line == "turn":
            for key, of_turn in values.items():
                found[key].append(median(of_turn))
            values.clear()
            continue
        entry = json.loads(line)
        if entry["section"] != "versions":
            names = "section", "flags", "series", "unit", "x"
            values[tuple(entry.get(name) for name in names)].append(entry["value"])
    return found


def main(here: str, there: str) -> None:
    """Prints the table."""
    ours, others = turns(here), turns(there)
    print(f"{'':44}{'here':>12}{'there':>12}{'ratio':>8}   of the turns")
    for key in ours:
        if key not in others:
            continue
        section, flags, series, unit, x = key
        name = f"{section} {series}{'' if x is None else f' {x}'}, {flags}"
        pairs = [a / b for a, b in zip(ours[key], others[key], strict=False) if b]
        a, b = median(ours[key]), median(others[key])
        spread = f"{min(pairs):.2f} to {max(pairs):.2f}" if pairs else ""
        ratio = f"{median(pairs):8.2f}" if pairs else f"{'':8}"
        print(f"{name[:43]:44}{a:12.4g}{b:12.4g}{ratio}   {spread}  {unit}")


main(*sys.argv[1:])
