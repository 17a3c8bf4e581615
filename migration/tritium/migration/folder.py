"""The folder of one model: its versions, what lies in them, and what keeps the server from finding them.

MODEL/config.pbtxt   MODEL/1/model.onnx   MODEL/2/.gitkeep   MODEL/v3/model.onnx

Weights are usually kept out of version control, so a version that holds nothing is no mistake of its owner.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritium.migration.kinds import BY_FILE

CONFIG = "config.pbtxt"
_NO_VERSIONS = {"warmup", "initial_state", "configs", "__pycache__"}
_STAND_INS = (".md", ".txt", ".sh", ".dvc", ".url", ".gitkeep")
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Folder:
    """One model's folder: `versions` are its numbered folders, ascending, each with the files that are really there."""

    path: Path
    versions: dict[str, frozenset[str]]
    misnumbered: tuple[str, ...] = ()
    """Folders meant as versions whose names are none: `v1`, `01`."""
    lying: str = ""
    """A model file that lies beside the configuration instead of in a version."""

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing of the model is here but its configuration."""
        return not any(self.versions.values()) and not self.misnumbered and not self.lying

    @property
    def first_files(self) -> frozenset[str]:
        """Return the files of the version that comes first in the alphabet, where Triton looks for the model's."""
        return self.versions[min(self.versions)] if self.versions else frozenset()

    def chosen(self, policy: Any) -> list[str]:
        """Return the versions that a version policy (the proto message) loads, ascending."""
        versions = list(self.versions)
        if policy.HasField("specific"):
            wanted = {str(version) for version in policy.specific.versions}
            return [version for version in versions if version in wanted]
        if policy.HasField("all"):
            return versions
        count = policy.latest.num_versions if policy.HasField("latest") else 1
        return versions[max(0, len(versions) - count) :]


def read_folder(path: Path) -> Folder:
    """List a model's folder; one that cannot be read is empty."""
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError:
        names = []
    folders = [name for name in names if (path / name).is_dir() and name not in _NO_VERSIONS and name[0] != "."]
    versions = sorted((name for name in folders if _is_version(name)), key=int)
    odd = tuple(n for n in folders if not _is_version(n) and n.lstrip("vV0").isdigit() and _holds(path / n))
    return Folder(
        path,
        {version: _holds(path / version) for version in versions},
        odd,
        next((name for name in BY_FILE if name in names), ""),
    )


def holds_a_model(path: Path, names: Sequence[str]) -> bool:
    """Tell whether a folder with these folders in it is a model without configuration: a version has a model's file."""
    return any(_is_version(name) and any(os.path.lexists(path / name / file) for file in BY_FILE) for name in names)


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")


def _holds(version: Path) -> frozenset[str]:
    """Return what a version holds but for notes, download scripts, and pointers to files that are kept elsewhere."""
    try:
        entries = sorted(version.iterdir())
    except OSError:
        return frozenset()
    return frozenset(
        entry.name
        for entry in entries
        if not entry.name.startswith((".", "__pycache__"))
        and not entry.name.endswith(_STAND_INS)
        and not _is_pointer(entry)
    )


def _is_pointer(file: Path) -> bool:
    """Tell whether a file only stands for one that is kept elsewhere: git-lfs's text, or a link to nowhere."""
    if not file.is_file():
        return not file.exists()
    try:
        with file.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
