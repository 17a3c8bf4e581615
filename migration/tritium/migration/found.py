"""A model while it is audited: what was read of it, and what has been found so far."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritium.compat.config.parse import Parsed
from tritium.compat.config.problem import Problem
from tritium.migration.finding import Finding, Severity
from tritium.migration.folder import Folder
from tritium.migration.kinds import BY_NAME, Kind


@dataclass(slots=True)
class Found:
    """A model as it was read. `config` is completed as far as the files tell."""

    name: str
    place: Path
    folder: Folder
    parsed: Parsed
    backend: str
    repository: Path | None
    """The folder that the model's folder lies in; None for a configuration that lies by itself."""
    findings: list[Finding] = field(default_factory=list)
    broken: bool = False
    template: bool = False
    bare: bool = False
    """It has no configuration: `place` is its folder."""
    code: Path | None = None
    """The model.py that is its backend, where its backend is written in Python."""

    @property
    def config(self) -> Any:
        """Return the configuration's message."""
        return self.parsed.message

    @property
    def kind(self) -> Kind | None:
        """Return what is known of the model's backend."""
        return BY_NAME.get(self.backend)

    @property
    def members(self) -> list[str]:
        """Return the models that an ensemble is made of, each once."""
        return list(dict.fromkeys(step.model_name for step in self.config.ensemble_scheduling.step))

    @property
    def sound(self) -> bool:
        """Tell whether the configuration can be held against others."""
        return not self.broken and not self.template

    def add(
        self,
        rule: str,
        severity: Severity,
        message: str,
        advice: str = "",
        at: Problem | None = None,
        *,
        already: bool = False,
    ) -> None:
        """Keep a finding; a blocker of what Triton refuses too is told by `refuse`."""
        line, column = (at.line, at.column) if at else (0, 0)
        self.findings.append(Finding(rule, severity, self.place, line, column, message, advice, already=already))

    def refuse(self, rule: str, message: str, advice: str = "", at: Problem | None = None) -> None:
        """Keep a finding that stops the model on Triton as well."""
        self.add(rule, Severity.BLOCKER, message, advice, at, already=True)
        self.broken = True
