"""Makes a virtual environment, for a pool with the option `requirements`.

Runs by itself before there is a worker: ``run([DIRECTORY, KIND, ITEM...])``, where KIND is
``list``, with requirements as pip has them, ``file`` or ``project``, with one path.

An environment is built aside, in a folder beside DIRECTORY, and DIRECTORY becomes a link to
it when it is whole. So workers that run in the one before keep what they have, and nobody
finds half of one. An environment that somebody else has made is filled where it is, and
never removed. The stamp, written last, says what is in it; a lock makes those that want the
same environment at the same time, on this node or another, build it once.

What is printed here and by the installers is shown to the user, line by line.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

#: In each environment that is whole.
STAMP = "erlang_python.requirements"

#: Begins the line that says in one sentence what failed.
FAILED = "erlang_python: "

#: Begins the line that says what is done next.
STEP = "==> "

#: What uv has in common with pip; a list with another option is for pip.
SHARED_OPTIONS = frozenset(
    {"-r", "--requirement", "-c", "--constraint", "-e", "--editable", "-U", "--upgrade"}
    | {"-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--no-index", "--no-deps"}
    | {"--no-binary", "--only-binary", "--no-build-isolation", "--require-hashes"}
)

#: Options with a file whose contents count.
FILE_OPTIONS = ("-r", "--requirement", "-c", "--constraint")

#: The files of a project that say what it needs.
PROJECT_FILES = ("pyproject.toml", "uv.lock", "setup.cfg", "setup.py")

#: What reads TOML: Python 3.10 has it only in pip.
TOML = "tomllib" if sys.version_info >= (3, 11) else "pip._vendor.tomli"

#: How long an installer waits for a network that does not answer, unless the environment
#: says otherwise. More retries keep a user who is offline waiting, fewer fail for a hiccup.
PATIENCE = {
    "PIP_DEFAULT_TIMEOUT": "10",
    "PIP_RETRIES": "1",
    "UV_HTTP_TIMEOUT": "10",
    "UV_HTTP_CONNECT_TIMEOUT": "5",
    "UV_HTTP_RETRIES": "1",
}

#: Nobody is there to be asked or to see a bar, and lines must come as they are printed.
SURROUNDINGS = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_PROGRESS_BAR": "off",
    "PYTHONUNBUFFERED": "1",
    "NO_COLOR": "1",
}


class VenvError(Exception):
    """What keeps the environment from being made, in one sentence."""


class Wanted:
    """What is to be installed: `kind` is list, file or project."""

    def __init__(self, kind: str, items: Sequence[str]) -> None:
        self.kind = kind
        self.items = list(items)
        if kind != "list" and not self.path.exists():
            raise VenvError(f"there is no {self.path}, which the pool option requirements names")
        if kind == "project" and not (self.path / "pyproject.toml").exists():
            raise VenvError(f"there is no pyproject.toml in {self.path}")

    @property
    def path(self) -> Path:
        """The file or the project's folder."""
        return Path(self.items[0])

    def stamp(self) -> dict[str, object]:
        """What must be equal for an environment to be the one that is wanted.

        Paths of files do not count, since a release takes them elsewhere.
        """
        files: list[Path] = []
        if self.kind == "project":
            files = [self.path / name for name in PROJECT_FILES]
        elif self.kind == "file":
            files = list(_with_included(self.path, set()))
        else:
            files = list(_files_of(self.items, Path.cwd(), set()))
        return {
            "kind": self.kind,
            "list": self.items if self.kind == "list" else [],
            "files": [_digest(file) for file in files if file.is_file()],
        }


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _with_included(file: Path, seen: set[Path]) -> Iterator[Path]:
    """A requirements file and the files that it names, itself first."""
    if file in seen or not file.is_file():
        return
    seen.add(file)
    yield file
    for line in file.read_text("utf-8", "replace").splitlines():
        yield from _files_of(line.split(), file.parent, seen)


def _files_of(words: Sequence[str], base: Path, seen: set[Path]) -> Iterator[Path]:
    """The files among the words of requirements, whose contents count as well."""
    after_option = False
    for word in words:
        option, _, value = word.partition("=")
        attached = word[2:] if word[:2] in FILE_OPTIONS and len(word) > 2 else ""
        if after_option:
            yield from _with_included(base / word, seen)
        elif option in FILE_OPTIONS and value:
            yield from _with_included(base / value, seen)
        elif attached:
            yield from _with_included(base / attached, seen)
        elif not word.startswith(("-", "#")) and (base / word).is_file():
            yield base / word  # A wheel or an archive.
        after_option = word in FILE_OPTIONS


class Installer:
    """uv if it is on the path, else venv and pip."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        options = {item.partition("=")[0] for item in wanted.items if item.startswith("-")}
        is_for_pip = wanted.kind == "list" and not options <= SHARED_OPTIONS
        self._uv = None if is_for_pip else shutil.which("uv")
        if self._uv is None and self._has_lock():
            raise VenvError(f"{wanted.path / 'uv.lock'} needs uv, which is not on the path")

    def _has_lock(self) -> bool:
        return self._wanted.kind == "project" and (self._wanted.path / "uv.lock").exists()

    def create(self, directory: Path, prompt: str) -> None:
        """Makes an empty environment for the interpreter that runs this."""
        # The one that this one was made from, if it is of an environment itself.
        python: str = getattr(sys, "_base_executable", None) or sys.executable
        named = ["--prompt", prompt, str(directory)]
        if self._uv:
            _run("uv venv", [self._uv, "venv", "--no-project", "--python", python, *named])
        elif importlib.util.find_spec("ensurepip") is None:
            raise VenvError(
                f"{python} has no module ensurepip; install it (python3-venv on Debian) or uv"
            )
        else:
            _run("python -m venv", [python, "-I", "-m", "venv", *named])

    def install(self, directory: Path, is_ours: bool) -> None:
        """Installs what is wanted into an environment."""
        python = str(directory / "bin" / "python")
        if self._uv and self._has_lock():
            # What the lock does not name is removed; not from what is the user's.
            exact = [] if is_ours else ["--inexact"]
            place = ["--project", str(self._wanted.path), "--python", python]
            command = [self._uv, "sync", "--frozen", "--no-dev", *exact, *place]
            _run("uv sync", command, UV_PROJECT_ENVIRONMENT=str(directory))
        elif self._uv:
            command = [self._uv, "pip", "install", "--python", python]
            _run("uv pip install", [*command, *self._arguments()])
        else:
            # Not influenced by the variables and the directory of the node.
            module = [python, "-I", "-u", "-m"]
            if not _succeeds([*module, "pip", "--version"]):
                _run("ensurepip", [*module, "ensurepip"])
            _run("pip install", [*module, "pip", "install", *self._arguments()])

    def _arguments(self) -> list[str]:
        if self._wanted.kind == "list":
            return self._wanted.items
        if self._wanted.kind == "file":
            return ["-r", str(self._wanted.path)]
        return _of_project(self._wanted.path)


def _of_project(path: Path) -> list[str]:
    """What is installed of a project without a lock: itself, if it can be built, or its needs."""
    try:
        tomllib = importlib.import_module(TOML)
    except ImportError:
        raise VenvError(f"{sys.executable} has no pip, which reads pyproject.toml") from None
    project = tomllib.loads((path / "pyproject.toml").read_text("utf-8"))
    if "build-system" in project:
        return ["-e", str(path)]
    needs: list[str] = project.get("project", {}).get("dependencies", [])
    if not needs:
        raise VenvError(f"{path / 'pyproject.toml'} has no dependencies and no build-system")
    return needs


def _run(name: str, command: list[str], **variables: str) -> None:
    # Not the whole command, which may hold the password of an index.
    print(f"{STEP}{name}", flush=True)
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, env=_surroundings(variables), check=False
        )
    except OSError as error:
        raise VenvError(f"{name} cannot be run: {error}") from None
    if done.returncode != 0:
        raise VenvError(f"{name} ended with exit code {done.returncode}:")


def _succeeds(command: list[str]) -> bool:
    done = subprocess.run(  # noqa: S603
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return done.returncode == 0


def _surroundings(variables: dict[str, str]) -> dict[str, str]:
    # What names another environment would be taken for the one to install into.
    inherited = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    return {**PATIENCE, **inherited, **SURROUNDINGS, **variables}


class Environment:
    """DIRECTORY, and what is beside it."""

    def __init__(self, directory: Path, wanted: Wanted) -> None:
        self._directory = directory
        self._wanted = wanted
        self._builds = directory.parent / f".{directory.name}.builds"
        self._stamp = {
            **wanted.stamp(),
            # A patch release runs what was made by another; another place need not.
            "python": [sys.implementation.cache_tag, sys.base_prefix],
        }

    def make(self) -> None:
        """Makes it and installs what is wanted, unless that was done."""
        if self._is_current(self._directory):
            return  # Also where nothing can be written.
        self._builds.mkdir(parents=True, exist_ok=True)
        with _locked(self._builds / "lock"):
            if self._is_current(self._directory):
                return
            if self._is_users():
                self._fill(self._directory, is_ours=False)
            else:
                self._replace()

    def _is_current(self, directory: Path) -> bool:
        found = _read(directory)
        # An environment of the user's has the interpreter that the user gave it.
        ignored = {"ours"} if found.get("ours") else {"ours", "python"}
        return bool(found) and all(
            found.get(key) == value for key, value in self._stamp.items() if key not in ignored
        )

    def _is_users(self) -> bool:
        if self._directory.is_symlink() and self._is_build(self._directory):
            return False
        if not self._directory.exists() or _read(self._directory).get("ours"):
            return False
        if (self._directory / "bin" / "python").exists():
            return True
        if any(self._directory.iterdir()):
            raise VenvError("the directory holds files and is no virtual environment")
        return False

    def _is_build(self, link: Path) -> bool:
        return Path(os.readlink(link)).parent.name == self._builds.name

    def _replace(self) -> None:
        build = self._builds / f"{os.getpid()}-{os.urandom(4).hex()}"
        try:
            Installer(self._wanted).create(build, self._directory.name)
            self._fill(build, is_ours=True)
        except BaseException:
            shutil.rmtree(build, ignore_errors=True)
            raise
        before = self._swap(build)
        for old in self._builds.iterdir():
            # Workers may run in the one before, and in none before that.
            if old.is_dir() and old.name not in (build.name, before):
                shutil.rmtree(old, ignore_errors=True)

    def _fill(self, directory: Path, is_ours: bool) -> None:
        (directory / STAMP).unlink(missing_ok=True)
        Installer(self._wanted).install(directory, is_ours)
        if is_ours:
            _rename_in_scripts(directory, self._directory)
        _write(directory, {**self._stamp, "ours": is_ours})

    def _swap(self, build: Path) -> str:
        """Puts a build in the directory's place; returns the name of the one before."""
        link = self._builds / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(self._builds.name) / build.name)
        before = ""
        if self._directory.is_symlink():
            before = Path(os.readlink(self._directory)).name
        elif self._directory.exists():
            # Empty, or a copy of one that was made here, as images have it.
            before = f"copy-{build.name}"
            self._directory.rename(self._builds / before)
        link.replace(self._directory)
        return before


def _read(directory: Path) -> dict[str, object]:
    try:
        found = json.loads((directory / STAMP).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    is_whole = isinstance(found, dict) and (directory / "bin" / "python").exists()
    return found if is_whole else {}


def _write(directory: Path, stamp: dict[str, object]) -> None:
    new = directory / (STAMP + ".new")
    new.write_text(json.dumps(stamp), "utf-8")
    new.replace(directory / STAMP)


def _rename_in_scripts(build: Path, directory: Path) -> None:
    """Scripts name the environment by its path, which is to be the one that users know."""
    for script in (build / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        text = script.read_bytes()
        renamed = text.replace(os.fsencode(build), os.fsencode(directory))
        if renamed != text and b"\0" not in text:
            script.write_bytes(renamed)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that makes the same environment", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _end_with_node() -> None:
    """Ends this process and all that it started when the node closes the port."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)

    def watch() -> None:
        while os.read(0, 1):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(arguments: list[str]) -> NoReturn:
    """Runs and exits: 0, or 1 after a line that says what failed."""
    _end_with_node()
    try:
        if sys.version_info < (3, 10):  # noqa: UP036 - it is the user's, not ours.
            version = "{}.{}".format(*sys.version_info)
            raise VenvError(f"Python {version} is too old: CPython 3.10 or newer is needed")
        directory, kind, *items = arguments
        Environment(Path(directory), Wanted(kind, items)).make()
    except (VenvError, OSError, ValueError) as error:
        print(f"{FAILED}{error}", flush=True)
        sys.exit(1)
    sys.exit(0)
