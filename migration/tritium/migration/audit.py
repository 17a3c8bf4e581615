"""The audit: walk a folder, read what belongs to a Triton deployment, and judge it. Reads only, never writes."""

import os
from collections.abc import Iterator
from pathlib import Path

from tritium.migration.finding import Audit
from tritium.migration.launch import read_launch
from tritium.migration.models import is_config, read_model

_SKIPPED_FOLDERS = {".git", "node_modules", ".venv", "venv", "__pycache__", ".terraform"}
_LARGEST_BYTES = 2 << 20
"""No hand-written configuration or manifest is larger; weights and data are not read."""


class AuditError(Exception):
    """The path cannot be audited."""


def audit(root: Path) -> Audit:
    """Audit everything below `root`.

    Raises:
        AuditError: there is no such folder.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise AuditError(f"{root} {what}; name the folder that holds the deployment or its model repository")
    models, launches, skipped = [], [], []
    for path in _files(root):
        if is_config(path):
            model = read_model(path, root)
            if model is None:
                skipped.append(path.relative_to(root))
            else:
                models.append(model)
        elif launch := read_launch(path, root):
            launches.append(launch)
    return Audit(root, tuple(models), tuple(launches), tuple(skipped))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED_FOLDERS)
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and path.stat().st_size <= _LARGEST_BYTES:
                yield path
