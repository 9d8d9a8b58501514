"""The mutants of script/mutate are those that the page lists, and still fit the code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATCHES = sorted((ROOT / "test" / "mutants").glob("*.patch"))


def test_the_page_lists_them() -> None:
    rows = []
    for patch in PATCHES:
        what, test, *_ = patch.read_text().splitlines()
        rows.append(f"| `{patch.stem}` | {what} | `{test.removeprefix('Test: ')}` |")
    assert rows
    assert "\n".join(rows) in (ROOT / "docs" / "contributing.md").read_text()


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_it_fits_the_code(patch: Path) -> None:
    command = ["git", "apply", "--check", str(patch)]
    fits = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert fits.returncode == 0, fits.stderr
