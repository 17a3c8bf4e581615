"""The audit: walk a folder, read what belongs to a Triton deployment, and judge it. Reads only, never writes."""

import os
from collections.abc import Iterator
from pathlib import Path

from tritium.migration.ensembles import check_ensembles
from tritium.migration.finding import Audit
from tritium.migration.folder import CONFIG, holds_a_model
from tritium.migration.language import language_models
from tritium.migration.launch import read_launch
from tritium.migration.models import is_config, read_bare, read_model, report

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
    # A model is called like its folder, which "." does not tell.
    given, root = root, Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would follow links, and rename models)
    for path in _paths(root):
        if path.is_dir() and not path.is_symlink():
            models.append(read_bare(path, root))
        elif is_config(path):
            model = read_model(path, root)
            if model is None:
                skipped.append(path.relative_to(root))
            else:
                models.append(model)
        elif launch := read_launch(path, root):
            launches.append(launch)
    check_ensembles(models)
    reports = tuple(report(model) for model in models)
    return Audit(given, reports, tuple(launches), tuple(language_models(models)), tuple(skipped))


def _paths(root: Path) -> Iterator[Path]:
    """Yield the files that may say something, and the folders that are models without a configuration."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED_FOLDERS)
        if not any(name.startswith(CONFIG) for name in files) and holds_a_model(Path(folder), folders):
            yield Path(folder)
        for name in sorted(files):
            path = Path(folder, name)
            small = path.is_file() and path.stat().st_size <= _LARGEST_BYTES
            # A configuration that is too large, or a link to nowhere, is a broken one; a pipe is none.
            if small or (name == CONFIG and (path.is_file() or not path.exists())):
                yield path
