"""``python -I environment.py DIRECTORY REQUIREMENT...``: makes a virtual environment.

For pools with the option `requirements`. Runs by itself, before there is a worker, and
holds a lock on the directory's parent, so that pools that start at the same time, on
this node or on another, make it once. It is the marker, written last, that says that the
environment is whole; one that was broken off half-made is made again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

#: Holds the requirements that were installed, one a line.
DONE = "erlang_python.requirements"

#: There while a directory that this program made is not whole.
MAKING = "erlang_python.making"


def main(directory: Path, requirements: list[str]) -> None:
    """Makes the environment if need be, and installs the requirements."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory.parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    wanted = "".join(requirement + "\n" for requirement in requirements)
    done = directory / DONE
    if done.exists() and done.read_text("utf-8") == wanted:
        return  # Another process has made it while this one waited.
    making = directory / MAKING
    if making.exists():
        shutil.rmtree(directory)
    python = directory / "bin" / "python"
    if not python.exists():
        # Only what is ours from the start may ever be removed as half-made.
        if not directory.exists() or not any(directory.iterdir()):
            directory.mkdir(exist_ok=True)
            making.touch()
        venv.EnvBuilder(with_pip=True, symlinks=True).create(directory)
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    # What the pool's options name is what is wanted.
    subprocess.run([*install, *requirements], stdin=subprocess.DEVNULL, check=True)  # noqa: S603
    done.write_text(wanted, "utf-8")
    making.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2:])
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
