"""The survey: walk a folder once, read what belongs to a Triton deployment, and put it together. Never writes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tritium.migration.deployment import Deployment, Launch, Target
from tritium.migration.ensembles import check_ensembles
from tritium.migration.folder import CONFIG, holds_a_model
from tritium.migration.language import language_models
from tritium.migration.launches.calling import calls
from tritium.migration.launches.format import Format
from tritium.migration.launches.hosting import hosted
from tritium.migration.launches.read import read_launch
from tritium.migration.launches.reading import Reading
from tritium.migration.launches.watching import queries
from tritium.migration.models import is_config, read_bare, read_model
from tritium.migration.text.source import Source, decode, source_of

_SKIPPED_FOLDERS = {
    ".dynamo-migrate",
    ".git",
    "node_modules",
    ".venv",
    "venv",
    "__pycache__",
    ".terraform",
    "site-packages",
}
_PLAN = ".dynamo-migrate.json"
"""How a saved plan is called; it is no part of the deployment it was made for."""
_LARGEST_BYTES = 2 << 20
"""No hand-written configuration or manifest is larger; weights and data are not read."""


class SurveyError(Exception):
    """The path cannot be read as a deployment."""


def survey(
    root: Path,
    progress: Callable[[int], None] = lambda _: None,
    *,
    target: Target | None = None,
    aside: frozenset[Path] = frozenset(),
) -> Deployment:
    """Read everything below `root`; `progress` is told the number of files read so far.

    Files in `aside`, by their absolute paths, are no part of the deployment; fixes name the images of `target`.

    Raises:
        SurveyError: there is no such folder.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise SurveyError(f"{root} {what}; name the folder that holds the deployment or its model repository")
    # A model is called like its folder, which "." does not tell.
    root = Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would follow links, and rename models)
    found = Deployment(root, target=target or Target())
    sources: dict[Path, Source] = {}
    for number, path in enumerate(_paths(root)):
        progress(number)
        if path in aside or path.name.endswith(_PLAN):
            continue
        if path.is_dir() and not path.is_symlink():
            found.models.append(read_bare(path, root))
        elif is_config(path):
            _read_config(path, found, sources)
        elif (source := _read(path, root)) is not None:
            _read_file(source, found, sources)
    for model in found.models:
        if model.kind is None and model.backend:
            model.code = next((p for p in sources if p.parts[-2:] == (model.backend, "model.py")), None)
    check_ensembles(found.models)
    found.groups = list(language_models(found.models))
    found.sources = sources
    return found


def _read_config(path: Path, found: Deployment, sources: dict[Path, Source]) -> None:
    model = read_model(path, found.root)
    if model is None:
        found.skipped.append(path.relative_to(found.root))
        return
    found.models.append(model)
    if (source := _read(path, found.root)) is not None:
        sources[source.path] = source


def _read_file(source: Source, found: Deployment, sources: dict[Path, Source]) -> None:
    sources[source.path] = source
    reading = Reading(source)
    if not reading.is_worth_it:
        return
    hosts = tuple(hosted(reading))
    launch = read_launch(reading)
    if launch is None and hosts:
        # The platform starts the server from this description: there is no image and no command of one's own.
        kind = f"{hosts[0].platform.value} {hosts[0].what.partition(' ')[0]}"
        launch = Launch(source, reading.form or Format.TEXT, kind=kind)
    if launch is not None:
        found.launches.append(launch)
    found.hosted += hosts
    found.queries += queries(reading)
    found.calls += calls(reading)


def _read(path: Path, root: Path) -> Source | None:
    """Read a file as text; None for one that is none, or cannot be read."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    return None if b"\0" in raw[:4096] else source_of(path.relative_to(root), decode(raw))


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
