"""A baseline: the findings of an earlier report, which are known and fail nothing any more.

A finding is known by its rule, file and message, not by its line: lines move when something else is edited.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tritium.migration.finding import Audit, Finding, Severity


class BadBaseline(Exception):
    """A baseline that is no report of `--format json`."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known already."""

    known: frozenset[tuple[str, str, str]]

    def knows(self, finding: Finding) -> bool:
        """Tell whether a finding was there before."""
        return (finding.rule, str(finding.path), finding.message) in self.known

    def fresh(self, audit: Audit) -> list[Finding]:
        """Return the findings that ask for something and were not there before."""
        return [f for f in audit.findings if f.severity is not Severity.INFO and not self.knows(f)]


def read_baseline(path: Path) -> Baseline:
    """Read a JSON report of one audit or several.

    Raises:
        BadBaseline: the file cannot be read, or is no such report.
    """
    try:
        reports = json.loads(path.read_bytes())
        reports = reports if isinstance(reports, list) else [reports]
        known = frozenset(
            (finding["rule"], finding["path"], finding["message"])
            for report in reports
            for part in (*report["models"], *report["launches"], {"findings": report.get("findings", [])})
            for finding in part["findings"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadBaseline(f"{path} is no report of dynamo-migrate audit --format json: {error}") from error
    return Baseline(known)
