"""What decides whether an environment is made again, and how; py_venv_SUITE makes some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from erlang_port import make_venv
from erlang_port.make_venv import Installer, VenvError, Wanted


def test_a_list_counts_as_it_is() -> None:
    assert Wanted("list", ["a", "b"]).stamp() == Wanted("list", ["a", "b"]).stamp()
    assert Wanted("list", ["a", "b"]).stamp() != Wanted("list", ["b", "a"]).stamp()
    assert Wanted("list", ["a"]).stamp() != Wanted("list", ["a", "b"]).stamp()


@pytest.mark.parametrize(
    "line",
    [
        "-r inner.txt",
        "-rinner.txt",
        "--requirement inner.txt",
        "--requirement=inner.txt",
        "-c inner.txt",
        "--constraint=inner.txt",
        "./inner.txt",
    ],
)
def test_files_that_a_file_names_count(tmp_path: Path, line: str) -> None:
    outer, inner = tmp_path / "outer.txt", tmp_path / "inner.txt"
    outer.write_text(f"# a comment\n{line}\n")
    inner.write_text("a==1\n")
    before = Wanted("file", [str(outer)]).stamp()
    assert Wanted("file", [str(outer)]).stamp() == before
    inner.write_text("a==2\n")
    assert Wanted("file", [str(outer)]).stamp() != before


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("-r two.txt\n")
    two.write_text("-r one.txt\n")
    files = Wanted("file", [str(one)]).stamp()["files"]
    assert isinstance(files, list)
    assert len(files) == 2


def test_where_a_file_is_does_not_count(tmp_path: Path) -> None:
    stamps = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "requirements.txt").write_text("a\n")
        stamps.append(Wanted("file", [str(folder / "requirements.txt")]).stamp())
    assert stamps[0] == stamps[1]


def test_a_wheel_in_a_list_counts_by_its_contents(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"1")
    before = Wanted("list", [str(wheel)]).stamp()
    wheel.write_bytes(b"2")
    assert Wanted("list", [str(wheel)]).stamp() != before


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(VenvError, match=r"no-such\.txt.*requirements"):
        Wanted("file", [str(tmp_path / "no-such.txt")])
    with pytest.raises(VenvError, match=r"no pyproject\.toml in"):
        Wanted("project", [str(tmp_path)])


def test_a_project_counts_by_the_files_that_say_what_it_needs(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "a"\ndependencies = ["b"]\n')
    wanted = Wanted("project", [str(tmp_path)])
    before = wanted.stamp()
    (tmp_path / "code.py").write_text("")
    assert wanted.stamp() == before
    (tmp_path / "uv.lock").write_text("")
    assert wanted.stamp() != before


def test_a_project_without_a_build_system_is_its_dependencies(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "a"\ndependencies = ["b>1", "c"]\n')
    assert make_venv._of_project(tmp_path) == ["b>1", "c"]
    project.write_text('[build-system]\nrequires = []\n[project]\nname = "a"\n')
    assert make_venv._of_project(tmp_path) == ["-e", str(tmp_path)]
    project.write_text('[project]\nname = "a"\n')
    with pytest.raises(VenvError, match="no dependencies"):
        make_venv._of_project(tmp_path)


def test_options_that_uv_does_not_have_are_for_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Installer(Wanted("list", ["--index-url", "x", "a"]))._uv == str(uv)
    assert Installer(Wanted("list", ["--index-url=x", "a"]))._uv == str(uv)
    assert Installer(Wanted("list", ["--retries", "0", "a"]))._uv is None
    monkeypatch.setenv("PATH", os.devnull)
    assert Installer(Wanted("list", ["a"]))._uv is None


def test_a_lock_needs_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "uv.lock").write_text("")
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(VenvError, match=r"uv\.lock needs uv"):
        Installer(Wanted("project", [str(tmp_path)]))


def test_scripts_name_the_environment_by_the_path_that_users_know(tmp_path: Path) -> None:
    build, directory = tmp_path / ".v.builds" / "1", tmp_path / "v"
    (build / "bin").mkdir(parents=True)
    script, binary = build / "bin" / "tool", build / "bin" / "binary"
    script.write_text(f"#!{build}/bin/python\nimport tool\n")
    script.chmod(0o755)
    binary.write_bytes(b"\x7fELF\0" + os.fsencode(build))
    make_venv._rename_in_scripts(build, directory)
    assert script.read_text() == f"#!{directory}/bin/python\nimport tool\n"
    assert script.stat().st_mode & 0o777 == 0o755
    assert binary.read_bytes() == b"\x7fELF\0" + os.fsencode(build)
