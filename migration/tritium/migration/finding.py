"""What an audit says: findings with a place and an advice, a verdict for each model, one for the deployment."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Severity(StrEnum):
    """How much a finding asks of the reader."""

    INFO = "info"
    CHANGE = "change"
    BLOCKER = "blocker"


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
    skipped: tuple[Path, ...] = field(default=())
    """Files that look like model configurations and are not."""

    @property
    def is_deployment(self) -> bool:
        """Tell whether anything of a Triton deployment was found."""
        return bool(self.models or self.launches)

    @property
    def counts(self) -> dict[Verdict, int]:
        """Count the models by verdict, best first."""
        return {v: n for v in Verdict if (n := sum(m.verdict is v for m in self.models))}
