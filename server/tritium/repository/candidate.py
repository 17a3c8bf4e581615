"""A model as it is before anything is loaded: its configuration, its versions, and all its problems."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tritium.compat.config.bind import Places
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.finding import Finding
from tritium.compat.config.problem import Problem, Stage, problem_of
from tritium.repository.layout import Fingerprint, of_version
from tritium.repository.loader import Check


@dataclass(frozen=True, slots=True)
class Rules:
    """What the server allows and has, as far as it decides whether a model can be loaded.

    `gpus` are the devices of this machine; where there is none, `cpu_for_gpu` runs KIND_GPU groups on the CPU.
    With `namespacing`, repositories are namespaces. `checks` are by backend what its loader finds in the files of a
    version without loading it, and `every_check` is what is to be found in any model.
    """

    backends: Collection[str] = ()
    gpus: Sequence[int] = ()
    cpu_for_gpu: bool = False
    auto_complete: bool = True
    namespacing: bool = False
    config_name: str = ""
    checks: Mapping[str, Check] = field(default_factory=dict)
    every_check: Check | None = None


def key_of(namespace: str, name: str) -> str:
    """Return what tells a model from others: its name, in its namespace where it has one."""
    return f"{namespace}::{name}" if namespace else name


@dataclass(slots=True)
class Candidate:
    """A model that might be loaded. `config` is the proto, completed as far as the files tell.

    `printed` are the files as they were when they were read; `overridden` models come from a load request. Where
    repositories are namespaces, `namespace` is the model's, and `links` are the keys of the models that its steps name.
    """

    name: str
    folder: Path
    config: Any
    places: Places
    versions: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    printed: Fingerprint = ()
    overridden: bool = False
    namespace: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return what tells the model from others."""
        return key_of(self.namespace, self.name)

    @property
    def backend(self) -> str:
        """Return the name of the loader that this model needs."""
        return ENSEMBLE if self.config.platform == ENSEMBLE else str(self.config.backend)

    @property
    def members(self) -> list[str]:
        """Return the keys of the models that an ensemble is made of, each once, in the order of its steps."""
        return list(dict.fromkeys(self.linked(step) for step in self.config.ensemble_scheduling.step))

    @property
    def steps(self) -> list[str]:
        """Return the names of the models that an ensemble is made of, wherever they are."""
        return [str(step.model_name) for step in self.config.ensemble_scheduling.step]

    def linked(self, step: Any) -> str:
        """Return the key of the model that a step of an ensemble runs."""
        asked = f"{step.model_namespace}::{step.model_name}" if step.model_namespace else step.model_name
        return self.links.get(asked, str(step.model_name))

    @property
    def fatal(self) -> bool:
        """Tell whether a problem stops the model from being served."""
        return any(problem.fatal for problem in self.problems)

    @property
    def tensors_known(self) -> bool:
        """Tell whether inputs and outputs are in the configuration, and sound."""
        return bool(self.config.input and self.config.output) and not self.fatal

    def first(self, stage: Stage) -> Problem | None:
        """Return the first problem of a stage."""
        return next((p for p in self.problems if p.stage is stage), None)

    def same_files(self, other: "Candidate") -> bool:
        """Tell whether nothing was written between the two."""
        return (self.folder, self.printed) == (other.folder, other.printed)

    def same_version(self, other: "Candidate", version: str) -> bool:
        """Tell whether a version of the one would do what it does in the other, with however many instances.

        Source: ConfigChangeRequiresReload in Triton core.
        """
        if self.folder != other.folder or of_version(self.printed, version) != of_version(other.printed, version):
            return False
        mine, theirs = type(self.config)(), type(self.config)()
        for copy, candidate in ((mine, self), (theirs, other)):
            copy.CopyFrom(candidate.config)
            copy.ClearField("version_policy")
            copy.ClearField("instance_group")
        return bool(mine == theirs)

    def same_instances(self, other: "Candidate") -> bool:
        """Tell whether the two ask for the same instances."""
        return bool(self.config.instance_group == other.config.instance_group)

    def again(self) -> "Candidate":
        """Return the candidate without what was found of its members, which may have changed since."""
        return replace(self, problems=[p for p in self.problems if p.stage is not Stage.GRAPH])

    def find(self, finding: Finding) -> None:
        """Put a finding into the model's configuration file and keep it."""
        self.problems.append(self.places.problem(finding))

    def note(self, message: str, hint: str = "", stage: Stage = Stage.POLL) -> None:
        """Keep a problem of the folder as a whole."""
        self.problems.append(problem_of(f"{self.folder}/", message, hint, stage))
