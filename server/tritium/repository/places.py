"""The repositories as they were given: which of them hold models, and what is wrong with those that do not.

given --each once--> there? --yes--> a repository? --yes--> its model folders, by name
                       +---------------------+--no--> a Problem, with the path that may have been meant
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.repository.layout import is_model, is_model_version, model_folders

_CLOUD = re.compile(r"(s3|gs|as):/")
_MOST_SUGGESTED = 3


@dataclass(slots=True)
class Places:
    """Where the models of all repositories are, by name, and what is wrong with the repositories."""

    folders: dict[str, list[Path]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: list[Problem] = field(default_factory=list)
    """Those of `problems` that are about repositories which are not there."""


def find_places(repositories: Sequence[Path]) -> Places:
    """List the model folders of all repositories; one that is given twice counts once."""
    places = Places()
    seen: set[Path] = set()
    found: dict[str, list[Path]] = {}
    for repository in repositories:
        if _CLOUD.match(str(repository)):
            # A Path has folded two slashes into one.
            address = str(repository).replace(":/", "://")
            hint = "copy it to a folder, and serve that"
            places.problems.append(problem_of(address, "cloud repositories are not served in this version", hint))
            continue
        resolved = repository.resolve()
        if resolved in seen:
            message = "the same repository is given twice; it is served once"
            places.problems.append(problem_of(str(repository), message, "", Stage.WARNING))
            continue
        seen.add(resolved)
        try:
            folders = model_folders(repository)
            problem = _problem(repository, folders)
        except OSError as error:
            folders, problem = [], _unreadable(repository, error)
            places.unreadable.append(problem)
        if problem is not None:
            places.problems.append(problem)
        if problem is None or not problem.fatal:
            for folder in folders:
                found.setdefault(folder.name, []).append(folder)
    places.folders = dict(sorted(found.items()))
    return places


def _problem(repository: Path, folders: Sequence[Path]) -> Problem | None:
    """Tell what is wrong with a folder that can be listed, if it is no repository or an empty one."""
    if is_model(repository) and not holds_models(folders):
        return problem_of(
            f"{repository}/", "is the folder of one model, not a repository", f"serve its parent {_above(repository)}"
        )
    if is_model_version(repository.absolute()):
        above = _above(_above(repository))
        return problem_of(f"{repository}/", "is a version of one model, not a repository", f"serve {above}")
    if not folders:
        hint = f"a model is a folder in it: {repository}/NAME/1/model.py"
        return problem_of(f"{repository}/", f"no models in {repository}", hint, Stage.WARNING)
    inner = [] if holds_models(folders) else [folder for folder in folders if _is_repository(folder)]
    if inner:
        hint = f"did you mean {' or '.join(str(folder) for folder in inner[:_MOST_SUGGESTED])}?"
        return problem_of(f"{repository}/", "holds repositories, and no models of its own", hint)
    return None


def _above(folder: Path) -> Path:
    """Return the parent, in full where the path as given does not show it."""
    return folder.parent if folder.name not in ("", "..") else folder.resolve().parent


def holds_models(folders: Sequence[Path]) -> bool:
    """Tell whether one of these is a model, so that the folder around them is a repository."""
    return any(is_model(folder) for folder in folders)


def _is_repository(folder: Path) -> bool:
    try:
        return holds_models(model_folders(folder))
    except OSError:
        return False


def _unreadable(repository: Path, error: OSError) -> Problem:
    if isinstance(error, FileNotFoundError):
        return problem_of(str(repository), "no such folder", _instead(repository))
    if isinstance(error, NotADirectoryError):
        return problem_of(str(repository), "is a file, not a folder", "a repository is a folder of model folders")
    return problem_of(str(repository), f"cannot be read: {error.strerror}")


def _instead(missing: Path) -> str:
    """Say which folder may have been meant, or down to where the path exists."""
    there = next(parent for parent in missing.parents if parent.is_dir())
    wrong = missing.relative_to(there).parts[0]
    try:
        names = [entry.name for entry in there.iterdir() if entry.is_dir()]
    except OSError:
        names = []
    near = difflib.get_close_matches(wrong, names, n=1)
    if near:
        return f"did you mean {there.joinpath(near[0], *missing.relative_to(there).parts[1:])}?"
    return f"there is no '{wrong}' in {there.absolute()}"
