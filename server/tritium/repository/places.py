"""The repositories as they were given: which of them hold models, and what is wrong with those that do not.

given --each once--> there? --yes--> a repository? --yes--> its model folders, by name
                       +---------------------+--no--> a Problem, with the path that may have been meant
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.repository.cloud.address import is_cloud
from tritium.repository.cloud.bucket import CloudError
from tritium.repository.cloud.repository import CloudRepository
from tritium.repository.layout import is_model, is_model_version, model_folders

_MOST_SUGGESTED = 3
_ALIKE = 0.8
"""How much of a folder's name has to be right for it to be meant: one letter in five may be wrong."""


@dataclass(frozen=True, slots=True)
class Renaming:
    """A folder of models some of which go by other names; `given` are these, by the subfolders."""

    folder: Path
    given: Mapping[str, str]

    def names(self) -> Sequence[str]:
        """Return the names of the models there."""
        return [self.given.get(name, name) for name in _folder_names(self.folder)]

    def folder_of(self, name: str) -> Path:
        """Return the folder of a model."""
        return self.folder / next((inner for inner, given in self.given.items() if given == name), name)


Repository = Path | CloudRepository
Source = Repository | Renaming


def repository_of(address: str, cache: Path | None = None) -> Repository:
    """Return what an address stands for: a folder, or a repository in an object store with its copies in `cache`."""
    return CloudRepository(address, cache) if is_cloud(address) else Path(address)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is: a folder, or a name in an object store of which `folder` fetches a copy."""

    repository: Source
    name: str

    @property
    def home(self) -> str:
        """Return the repository as it was given."""
        match self.repository:
            case CloudRepository():
                return self.repository.address
            case Renaming():
                return str(self.repository.folder)
            case _:
                return str(self.repository)

    @property
    def renamed(self) -> bool:
        """Tell whether the model's name is not its folder's."""
        return isinstance(self.repository, Renaming) and self.name in self.repository.given.values()

    def folder(self) -> Path:
        """Return the model's folder on this machine, as it is now.

        Raises:
            CloudError: it cannot be fetched.
        """
        match self.repository:
            case CloudRepository():
                return self.repository.folder(self.name)
            case Renaming():
                return self.repository.folder_of(self.name)
            case _:
                return self.repository / self.name


@dataclass(slots=True)
class Places:
    """Where the models of all repositories are, by name, and what is wrong with the repositories."""

    models: dict[str, list[Place]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: list[Problem] = field(default_factory=list)
    """Those of `problems` that are about repositories which are not there."""


def find_places(repositories: Sequence[Source], *, known: bool = False) -> Places:
    """List the models of all repositories; one that is given twice counts once.

    With `known`, nothing is found wrong with them, and those in object stores are listed as they were found last:
    that takes no time.
    """
    places = Places()
    seen: set[Path | str] = set()
    found: dict[str, list[Place]] = {}
    for repository in repositories:
        home = Place(repository, "").home
        resolved = home if isinstance(repository, CloudRepository) else Path(home).resolve()
        if resolved in seen:
            message = "the same repository is given twice; it is served once"
            places.problems.append(problem_of(home, message, "", Stage.WARNING))
            continue
        seen.add(resolved)
        names: Sequence[str] = ()
        if isinstance(repository, CloudRepository):
            names = _cloud_names(repository, places, known=known)
        elif isinstance(repository, Renaming):
            names = repository.names()
        else:
            names = _folder_names(repository) if known else _local_names(repository, places)
        for name in names:
            found.setdefault(name, []).append(Place(repository, name))
    places.models = dict(sorted(found.items()))
    return places


def _cloud_names(repository: CloudRepository, places: Places, *, known: bool) -> Sequence[str]:
    if known:
        return repository.known
    try:
        return repository.names()
    except CloudError as error:
        problem = problem_of(repository.address, error.message, error.hint)
        places.problems.append(problem)
        places.unreadable.append(problem)
        return ()


def _folder_names(repository: Path) -> Sequence[str]:
    try:
        return [folder.name for folder in model_folders(repository)]
    except OSError:
        return ()


def _local_names(repository: Path, places: Places) -> Sequence[str]:
    try:
        folders = model_folders(repository)
        problem = _problem(repository, folders)
    except OSError as error:
        folders, problem = [], _unreadable(repository, error)
        places.unreadable.append(problem)
    if problem is not None:
        places.problems.append(problem)
        if problem.fatal:
            return ()
    return [folder.name for folder in folders]


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
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=_ALIKE)
    if near:
        return f"did you mean {there.joinpath(near[0], *missing.relative_to(there).parts[1:])}?"
    return f"there is no '{wrong}' in {there.absolute()}"
