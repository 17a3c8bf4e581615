"""Everything that can be said of model repositories before a model is loaded; `tritium check` prints it.

repositories -> folders -> candidates -> ensembles against their members -> Survey
"""

import difflib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tritium.compat.config import messages
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.ensemble import check_members, cycle_through
from tritium.compat.config.finding import Finding
from tritium.compat.config.problem import Problem, Stage, problem_of, render
from tritium.repository.candidate import Candidate
from tritium.repository.cloud.bucket import CloudError
from tritium.repository.namespaces import link
from tritium.repository.places import Place, Source, find_places
from tritium.repository.reading import Reader


@dataclass(slots=True)
class Survey:
    """The models that repositories hold, by name; `duplicates` are names found twice, which serve neither."""

    candidates: dict[str, Candidate] = field(default_factory=dict)
    duplicates: set[str] = field(default_factory=set)
    general: list[Problem] = field(default_factory=list)
    unreadable: list[Problem] = field(default_factory=list)
    """Those of `general` that are about repositories which are not there."""
    unfetched: set[str] = field(default_factory=set)
    """Names of models that are in an object store and could not be fetched."""
    left_out: list[str] = field(default_factory=list)
    """What could not be checked without running the models."""

    @property
    def problems(self) -> list[Problem]:
        """Return every problem, those of the repositories first."""
        return self.general + [p for c in self.candidates.values() for p in c.problems]

    @property
    def fatal(self) -> bool:
        """Tell whether a model cannot be served, or a repository not be read."""
        return any(problem.fatal for problem in self.problems)

    def render(self, ending: str) -> str:
        """Show every problem and, in the last line, how many they are."""
        return "\n".join(line for line in (render(self.problems), self.summary(ending)) if line)

    def summary(self, ending: str = "") -> str:
        """Count the problems: `2 problems in 2 of 5 models.`, or `No problems in 5 models.`, and then `ending`.

        Those of the repositories themselves are in none of the models: `1 problem.`
        """
        models = len(self.candidates) + len(self.duplicates)
        fatal = [p for p in self.problems if p.fatal]
        broken = len(self.duplicates) + sum(c.fatal for c in self.candidates.values())
        counted = _count(len(fatal), "problem")
        if not fatal:
            counted = f"No problems in {_count(models, 'model')}"
        elif broken:
            counted += f" in {broken} of {_count(models, 'model')}"
        elif models:
            counted += f", none in the {_count(models, 'model')}"
        counted += "."
        return f"{counted} {ending}".rstrip()


def survey(
    repositories: Sequence[Source],
    reader: Reader,
    only: Iterable[str] | None = None,
    given: Mapping[str, Candidate] | None = None,
) -> Survey:
    """Read repositories.

    `only` names the models to read (their members are read as well); `given` are candidates that stand for folders.
    """
    found = Survey(candidates=dict(given or {}))
    places = find_places(repositories)
    models = places.models
    found.general += places.problems
    found.unreadable = places.unreadable
    if only is None:
        for name, here in models.items():
            _read(found, name, here, reader)
    else:
        _read_named(found, models, list(only), reader)
    if reader.rules.namespacing:
        found.candidates = link(found.candidates)
        if only is not None:
            found.candidates = _needed(found.candidates, set(only))
    check_ensembles(found.candidates, found.candidates)
    return found


def _read(found: Survey, name: str, here: Sequence[Place], reader: Reader) -> None:
    """Read the models of one name: one, unless repositories are namespaces."""
    if len(here) > 1 and not reader.rules.namespacing:
        _duplicate(found, name, here)
        return
    for place in here:
        try:
            candidate = reader.read(place.folder(), name, place.home, renamed=place.renamed)
        except CloudError as error:
            found.general.append(problem_of(f"{place.home}/{name}", error.message, error.hint))
            found.unfetched.add(name)
        else:
            found.candidates.setdefault(candidate.key, candidate)


def _needed(candidates: Mapping[str, Candidate], names: set[str]) -> dict[str, Candidate]:
    """Leave out the models of other namespaces that were read only because they have a member's name."""
    waiting = [key for key, candidate in candidates.items() if candidate.name in names]
    needed: dict[str, Candidate] = {}
    while waiting:
        key = waiting.pop()
        if key in candidates and key not in needed:
            needed[key] = candidates[key]
            waiting += candidates[key].members
    return needed


def _duplicate(found: Survey, name: str, places: Sequence[Place]) -> None:
    found.duplicates.add(name)
    folders = [f"{place.home}/{name}" for place in places]
    others = " and ".join(folders)
    found.general.append(
        problem_of(f"{folders[-1]}/", messages.DUPLICATE, f"{others}: delete or rename all but one", Stage.LOAD)
    )


def _read_named(found: Survey, models: Mapping[str, list[Place]], names: list[str], reader: Reader) -> None:
    asked, read = set(names), {candidate.name for candidate in found.candidates.values()}
    waiting = deque([*names, *(step for candidate in found.candidates.values() for step in candidate.steps)])
    while waiting:
        name = waiting.popleft()
        if name in read:
            continue
        read.add(name)
        before = len(found.candidates)
        _read(found, name, models.get(name, ()), reader)
        for candidate in list(found.candidates.values())[before:]:
            waiting += candidate.steps
        if name not in models and name in asked:
            have = ", ".join(models) or "none"
            found.general.append(problem_of(name, "model not found in any model repository", f"there are: {have}"))


def check_ensembles(candidates: Mapping[str, Candidate], known: Mapping[str, Candidate]) -> None:
    """Check ensembles against the models in `known`: that they are there, form no cycle, and fit together.

    Members whose tensors only their backend knows are checked once they are loaded.
    """
    for candidate in candidates.values():
        if candidate.backend != ENSEMBLE or candidate.problems:
            continue
        missing = sorted(member for member in candidate.members if member not in known)
        if missing:
            _missing_members(candidate, missing, known)
        elif last := cycle_through(candidate.key, lambda key: known[key].members if key in known else ()):
            candidate.find(Finding(("ensemble_scheduling",), messages.circular(candidate.name, last), "", Stage.GRAPH))
        else:
            steps = candidate.config.ensemble_scheduling.step
            members = {step.model_name: known[candidate.linked(step)] for step in steps}
            if all(member.tensors_known for member in members.values()):
                for finding in check_members(candidate.config, {n: m.config for n, m in members.items()}):
                    candidate.find(finding)


def _missing_members(candidate: Candidate, missing: Sequence[str], known: Mapping[str, Candidate]) -> None:
    message = messages.members_missing(candidate.name, ", ".join(missing))
    for index, step in enumerate(candidate.config.ensemble_scheduling.step):
        if step.model_name in missing:
            where = ("ensemble_scheduling", "step", index, "model_name")
            near = difflib.get_close_matches(step.model_name, known, n=1)
            candidate.find(Finding(where, message, f"did you mean {near[0]}?" if near else "", Stage.GRAPH))
            return


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
