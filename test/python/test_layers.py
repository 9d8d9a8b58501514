"""The floors of the port program: a module imports only from floors below its own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PYTHON_SIDE = Path(__file__).resolve().parents[2] / "python_side"

#: From the ground. What is named for a folder stands for all that is in it.
FLOORS = [
    {"hints"},
    {"errors", "handover"},
    {"reasons", "batching", "etf", "wire", "leaving"},
    {"current"},
    {"about", "runtime"},
    {"context"},
    {"node"},
    {"requests"},
    {"worker"},
    {"main"},
]

#: Programs of their own.
APART = {"make_venv"}

#: What the face for user code may stand on.
FACE = {"about", "current", "errors", "etf", "handover", "hints"}


def modules() -> list[str]:
    found = []
    for path in sorted(PYTHON_SIDE.rglob("*.py")):
        name = ".".join(path.relative_to(PYTHON_SIDE).with_suffix("").parts)
        if name.split(".")[0] in ("erlang", "erlang_port"):
            found.append(name.removesuffix(".__init__"))
    return found


def imports(module: str) -> Iterator[str]:
    """What a module imports of ours, those under TYPE_CHECKING and in functions, too."""
    path = PYTHON_SIDE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    known = set(modules())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [
                name if (name := f"{node.module}.{alias.name}") in known else node.module
                for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("erlang", "erlang_port"))


def folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def floor(module: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if folder(module) in names)


PORT = [name for name in modules() if name.startswith("erlang_port.") and folder(name) not in APART]


def test_each_module_is_on_a_floor() -> None:
    assert {folder(name) for name in PORT} == set().union(*FLOORS)


@pytest.mark.parametrize("module", PORT)
def test_imports_go_down(module: str) -> None:
    for other in imports(module):
        if other == "erlang_port":
            continue
        assert other.startswith("erlang_port."), f"{module} imports the face, {other}"
        same = folder(other) == folder(module)
        assert same or floor(other) < floor(module), f"{module} imports {other}, which is above it"


def test_there_is_no_circle() -> None:
    graph = {name: set(imports(name)) for name in modules()}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {error.args[1]}")


def test_the_page_has_the_floors() -> None:
    page = (PYTHON_SIDE.parent / "docs" / "internals.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (`.*?`) \|", page, re.MULTILINE)
    shown = {int(n): set(re.findall(r"`(\w+)(?:\.py|/)`", names)) for n, names in rows}
    assert shown == dict(enumerate(FLOORS, 1))
    face = re.search(r"the face for user code: it stands on (.*), and nothing imports it", page)
    assert face is not None
    assert set(re.findall(r"`(\w+)`", face[1])) == FACE


def test_the_face_stands_on_little() -> None:
    for module in modules():
        if module.split(".")[0] == "erlang":
            for other in imports(module):
                if other.split(".")[0] == "erlang_port":
                    assert folder(other) in FACE, f"{module} imports {other}"


def test_each_module_can_be_imported_first() -> None:
    script = (
        "import importlib, os, sys\n"
        "for name in sys.argv[1:]:\n"
        "    if os.fork() == 0:\n"
        "        try: importlib.import_module(name)\n"
        "        except BaseException as error:\n"
        "            print(name, repr(error), flush=True)\n"
        "            os._exit(1)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *modules()],
        env={"PYTHONPATH": str(PYTHON_SIDE)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout + done.stderr == ""
