"""What a rule is: an id, how much it asks, a docstring that becomes its page, and `find`.

    class ServerImage(Rule):
        '''The image of Triton's server is replaced.

        Paragraphs of why, and what to do.

        Before compose.yaml:

            services: ...

        After compose.yaml:

            services: ...
        '''

        id = "L01"
        severity = Severity.CHANGE

        def find(self, deployment: Deployment) -> Iterator[Finding]: ...

What stands under `Before` is audited by a test; what stands under `After` is what the rule's fixes make of it. Other
packages add rules by the entry point group `tritium.migration.rules`, each naming a subclass of Rule.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

from tritium.compat.config.finding import Finding as Broken
from tritium.migration.deployment import Deployment, at
from tritium.migration.finding import Finding, Severity
from tritium.migration.found import Found
from tritium.migration.text.edit import Edit, Fix
from tritium.migration.text.source import Source, Span


class Rule(ABC):
    """One thing to find in a deployment. It reads, and never changes what it is given."""

    id: ClassVar[str]
    severity: ClassVar[Severity]
    """How much it asks in most cases; a finding may ask for more or less."""

    @abstractmethod
    def find(self, deployment: Deployment) -> Iterable[Finding]:
        """Find every place, in the order of files and lines."""

    def at(
        self,
        source: Source,
        span: Span,
        message: str,
        advice: str = "",
        *,
        severity: Severity | None = None,
        fix: Fix | None = None,
        already: bool = False,
        about: Path | None = None,
    ) -> Finding:
        """Make a finding of this rule at a place in a file."""
        gravity = self.severity if severity is None else severity
        return at(self.id, gravity, source, span, message, advice, fix=fix, already=already, about=about)

    def of(
        self,
        model: Found,
        message: str,
        advice: str = "",
        *,
        field: tuple[str | int, ...] = (),
        severity: Severity | None = None,
        already: bool = False,
    ) -> Finding:
        """Make a finding of this rule about a model: at a field of its configuration, or of all of it."""
        place = model.parsed.places.problem(Broken(field, "")) if field else None
        line, column = (place.line, place.column) if place else (0, 0)
        gravity = self.severity if severity is None else severity
        return Finding(self.id, gravity, model.place, line, column, message, advice, already=already)


class Observed(Rule):
    """A rule whose findings are made while models are read, because reading and checking them is the server's own."""

    def find(self, deployment: Deployment) -> Iterator[Finding]:
        """Return what was found of each model."""
        return (f for model in deployment.models for f in model.findings if f.rule == self.id)


def replacement(source: Source, span: Span, new: str, *, safe: bool = True) -> Fix:
    """Make a fix of one replacement."""
    return Fix((Edit(source.path, span, new),), safe)
