"""Compiles the accelerator into the wheel, where a C compiler and Python's headers are there.

A hook of Hatch (https://hatch.pypa.io/latest/plugins/build-hook/custom/). Whatever keeps it from
compiling is printed, and the wheel is made without: nothing needs the accelerator.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path(__file__).with_name("erlang_accelerator.c")


def compile_into(directory: Path, version: str) -> Path:
    """The compiled module. Raises OSError or subprocess.CalledProcessError."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise OSError("it leans on the interpreter lock, which this Python does without")
    if sys.implementation.name != "cpython":
        raise OSError("it is for CPython")
    target = directory / f"erlang_accelerator{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    link = shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared")[1:]
    flags = ["-O2", "-fPIC", f'-DACCELERATOR_VERSION="{version}"']
    include = ["-I", sysconfig.get_path("include")]
    command = [*compiler, *link, *flags, *include, str(SOURCE), "-o", str(target)]
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return target


class Accelerator(BuildHookInterface):
    """Adds the compiled module to a wheel, also to that of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is made; `version` is "standard" or "editable"."""
        self.made = tempfile.TemporaryDirectory()
        try:
            module = compile_into(Path(self.made.name), self.metadata.version)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or error
            self.app.display_warning(f"the accelerator is left out: {why}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        key = "force_include_editable" if version == "editable" else "force_include"
        build_data[key][str(module)] = module.name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is made."""
        self.made.cleanup()
