"""What several files of the project state must be the same in all of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("pyproject.toml", r'^version = "(.+)"$'),
        ("erlang_side/erlang_python.app.src", r'\{vsn, "(.+)"\}'),
        ("python_side/erlang_port/etf/encoder.py", r'^VERSION_OF_PACKAGE: Final = "(.+)"$'),
    ],
)
def test_the_version_is_the_newest_of_the_changelog(file: str, pattern: str) -> None:
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    stated = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert newest is not None
    assert stated is not None
    assert stated[1] == newest[1]


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("index", ["README.md", "docs/README.md"])
def test_every_page_is_in_the_index(index: str) -> None:
    text = (ROOT / index).read_text()
    for page in (ROOT / "docs").glob("[a-z]*.md"):
        assert f"{page.name})" in text, f"{index} has no link to {page.name}"


def test_a_package_has_every_page() -> None:
    text = (ROOT / "rebar.config").read_text()
    for page in (ROOT / "docs").glob("[a-z]*.md"):
        assert f'"docs/{page.name}"' in text, f"ex_doc in rebar.config has not {page.name}"


USER_CODE = """
from collections.abc import Iterator

import erlang
from erlang_port import errors


def numbers(pid: erlang.Pid, n: int) -> Iterator[int]:
    for i in range(n):
        if erlang.cancelled():
            return
        erlang.send(pid, (erlang.Atom("progress"), i))
        yield i
"""


def test_user_code_is_type_checked_against_the_packages(tmp_path: Path) -> None:
    """Both packages are marked as typed: strict code that imports them has no error."""
    (tmp_path / "user.py").write_text(USER_CODE)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "user.py"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
