"""Compiles the modules of the hot path with mypyc into the wheel: TRITIUM_COMPILE=1 pip wheel .

The sources stay in the wheel beside the extension modules, for tracebacks and for interpreters that these were not
built for. Without the switch, and always in an editable install, everything is pure Python and behaves the same.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "TRITIUM_COMPILE"
TOOLS = ["mypy==2.4.1", "setuptools>=75"]


class CompileHook(BuildHookInterface):  # type: ignore[type-arg]  # the builder's own configuration is not used
    """Adds extension modules to a wheel; `compile` in pyproject.toml lists their sources."""

    def dependencies(self) -> list[str]:
        """Return what compiling needs: the compiler, and the packages whose types the sources use."""
        return TOOLS + self.metadata.core.dependencies if self._wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name what came of it to the wheel."""
        if not self._wanted or version == "editable":
            return
        out = Path(tempfile.mkdtemp(prefix="tritium-compiled-"))
        self._compile(out)
        for module in out.rglob("*.so"):
            build_data["force_include"][str(module)] = str(module.relative_to(out))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    @property
    def _wanted(self) -> bool:
        return self.target_name == "wheel" and os.environ.get(SWITCH, "0") not in {"", "0"}

    def _sources(self) -> list[str]:
        return [source for pattern in self.config["compile"] for source in expand(pattern)]

    def _compile(self, out: Path) -> None:
        # Only a build that compiles has these.
        from mypyc.build import mypycify  # noqa: PLC0415
        from setuptools import Distribution  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="tritium-build-") as scratch:
            modules = mypycify(
                self._sources(), opt_level="2", debug_level="0", group_name="tritium", target_dir=scratch
            )
            command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
            command.build_lib, command.build_temp = str(out), scratch
            command.ensure_finalized()
            command.run()


def expand(pattern: str) -> list[str]:
    """Write out the one {a,b,c} of a pattern."""
    found = re.fullmatch(r"(.*)\{(.*)\}(.*)", pattern)
    return [found[1] + name + found[3] for name in found[2].split(",")] if found else [pattern]
