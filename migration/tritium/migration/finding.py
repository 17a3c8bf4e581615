"""What an audit says: findings with a place and an advice, a verdict for each model, one for the deployment."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tritium.migration.text.edit import Fix


class Severity(StrEnum):
    """How much a finding asks of the reader, from nothing to the most.

    CHANGE is rewritten by `apply`; TODO is for a person to do or to look at; QUESTION lacks a fact; what REBUILD is
    about must be made anew from its origin; a BLOCKER is not served, or does not start.
    """

    INFO = "info"
    CHANGE = "change"
    TODO = "todo"
    QUESTION = "question"
    REBUILD = "rebuild"
    BLOCKER = "blocker"

    @property
    def weight(self) -> int:
        """Return what a finding takes off the score of 100."""
        return _WEIGHTS[self]

    @property
    def rank(self) -> int:
        """Return the place among the severities; higher asks for more."""
        return list(Severity).index(self)


_WEIGHTS = {
    Severity.INFO: 0,
    Severity.CHANGE: 0,
    Severity.TODO: 10,
    Severity.QUESTION: 20,
    Severity.REBUILD: 40,
    Severity.BLOCKER: 100,
}


class Verdict(StrEnum):
    """What becomes of a model; ordered from the best to the worst."""

    SERVES = "serves as it is"
    CHANGE = "serves after a change"
    CONVERT = "must be converted"
    UNKNOWN = "cannot be told"
    UNSUPPORTED = "not served"
    BROKEN = "would not load on Triton either"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know: the rule's id, where (line and column from 1; 0: the whole file), what, and what to do."""

    rule: str
    severity: Severity
    path: Path
    line: int
    column: int
    message: str
    advice: str = ""
    about: Path | None = None
    """The place of the model it is about, where that is not `path`."""
    already: bool = False
    """It was so on Triton too: the model never loaded, the alert never fired."""
    fix: Fix | None = field(default=None, compare=False)
    excerpt: str = ""
    """The line that is meant, without secrets."""


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What one model is and how it fares."""

    name: str
    kind: str
    verdict: Verdict
    path: Path
    because: str
    advice: str = ""
    versions: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    score: int = 100
    evidence: str = ""
    """What says that the model is deployed, or that it is not."""


@dataclass(frozen=True, slots=True)
class LaunchReport:
    """One file that starts Triton: its images, the server's command lines in it, and what they mean here."""

    path: Path
    kind: str
    images: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Models that are one language model together: its parts by name, and what that means here."""

    name: str
    path: Path
    members: tuple[str, ...]
    rule: str
    message: str
    advice: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything found below one folder."""

    root: Path
    models: tuple[ModelReport, ...] = ()
    launches: tuple[LaunchReport, ...] = ()
    groups: tuple[Group, ...] = ()
    others: tuple[Finding, ...] = ()
    """Findings in neither: dashboards, alerts, autoscalers, clients."""
    skipped: tuple[Path, ...] = field(default=())
    """Files that look like model configurations and are not."""
    clients: tuple[Path, ...] = ()
    """Files that call a Triton server."""
    hosts: tuple[str, ...] = ()
    """Platforms that start Triton themselves."""

    @property
    def is_deployment(self) -> bool:
        """Tell whether anything of a Triton deployment was found."""
        return bool(self.models or self.launches or self.hosts)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return all findings, models first."""
        models = (finding for model in self.models for finding in model.findings)
        launches = (finding for launch in self.launches for finding in launch.findings)
        return (*models, *launches, *self.others)

    @property
    def counts(self) -> dict[Verdict, int]:
        """Count the models by verdict, best first."""
        return {v: n for v in Verdict if (n := sum(m.verdict is v for m in self.models))}

    @property
    def score(self) -> int:
        """Return the deployment's score: that of its worst model or launch file."""
        return min((*(m.score for m in self.models), *(score_of(x.findings) for x in self.launches)), default=100)


def score_of(findings: tuple[Finding, ...]) -> int:
    """Return what findings leave of 100; a rule counts once, by its gravest finding."""
    gravest: dict[str, int] = {}
    for finding in findings:
        gravest[finding.rule] = max(gravest.get(finding.rule, 0), finding.severity.weight)
    return max(0, 100 - sum(gravest.values()))
