"""What lies in a model's folder: version folders, their files, and which versions its policy chooses.

MODEL/config.pbtxt   MODEL/labels.txt   MODEL/configs/NAME.pbtxt   MODEL/1/model.onnx   MODEL/2/model.onnx
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_MODELS = frozenset({"lost+found", "__pycache__"})
_NO_VERSIONS = frozenset({"warmup", "initial_state", "configs", "__pycache__"})


Fingerprint = tuple[tuple[str, int, int], ...]
"""Of each file its path below the model's folder, size and time; folders, which end with a slash, have neither."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The folder of one model. `versions` are its numeric folders, ascending; `others` those that are no version."""

    folder: Path
    versions: tuple[str, ...]
    others: tuple[str, ...]
    files: tuple[str, ...]
    first_version_files: tuple[str, ...]


def read_layout(folder: Path) -> Layout:
    """List a model's folder."""
    versions, others, files = [], [], []
    for entry in _entries(folder):
        if not entry.is_dir():
            files.append(entry.name)
        elif is_version(entry.name):
            versions.append(entry.name)
        elif entry.name not in _NO_VERSIONS:
            others.append(entry.name)
    # Triton looks for the model's file in the version folder that comes first in the alphabet.
    first = tuple(entry.name for entry in _entries(folder / min(versions))) if versions else ()
    return Layout(folder, tuple(sorted(versions, key=int)), tuple(others), tuple(files), first)


def is_version(name: str) -> bool:
    """Tell whether a folder of that name is a version: a number without leading zeros."""
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")


def is_model(folder: Path) -> bool:
    """Tell whether a folder is that of one model: it has a config.pbtxt, or a version with the file of a model."""
    try:
        if (folder / "config.pbtxt").is_file():
            return True
        return any(is_model_version(Path(entry.path)) for entry in _entries(folder))
    except OSError:
        return False


def is_model_version(folder: Path) -> bool:
    """Tell whether a folder is a version of a model: a number, with the file of a model in it.

    One that has a configuration is a model whose name is a number.
    """
    if not is_version(folder.name) or not folder.is_dir():
        return False
    names = [entry.name for entry in _entries(folder)]
    return "config.pbtxt" not in names and any(name.startswith("model.") for name in names)


def model_folders(repository: Path) -> list[Path]:
    """Return the model folders of a repository by name; hidden ones and lost+found are none.

    Raises:
        OSError: the repository cannot be read.
    """
    with os.scandir(repository) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name not in NO_MODELS]
    return [repository / name for name in sorted(names)]


def chosen_versions(policy: Any, versions: Sequence[str]) -> list[str]:
    """Return the versions that a version policy loads, ascending; `policy` is the proto message."""
    if policy.HasField("specific"):
        wanted = {str(version) for version in policy.specific.versions}
        return [version for version in versions if version in wanted]
    if policy.HasField("all"):
        return list(versions)
    count = policy.latest.num_versions if policy.HasField("latest") else 1
    return list(versions[len(versions) - min(count, len(versions)) :])


def fingerprint(folder: Path) -> Fingerprint:
    """Describe the files under a folder by path, size and time, so that a change can be told."""
    found: list[tuple[str, int, int]] = []
    for parent, folders, files in os.walk(folder):
        # A running python model writes its byte code beside it.
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        inner = os.path.relpath(parent, folder)
        found += [(f"{name}/" if inner == "." else f"{inner}/{name}/", 0, 0) for name in folders]
        for name in sorted(files):
            try:
                status = os.stat(os.path.join(parent, name))  # noqa: PTH116, PTH118  a Path costs ten times as much
            except OSError:
                continue
            found.append((name if inner == "." else f"{inner}/{name}", status.st_size, status.st_mtime_ns))
    return tuple(found)


def of_version(printed: Fingerprint, version: str) -> Fingerprint:
    """Return of a model's files those that its configuration aside make up a version: its own, and what all share."""
    return tuple(entry for entry in printed if _concerns(entry[0].partition("/"), version))


def _concerns(parts: tuple[str, str, str], version: str) -> bool:
    top, folder, _ = parts
    if not folder:
        return top != "config.pbtxt"
    return top == version or not (is_version(top) or top == "configs")


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
