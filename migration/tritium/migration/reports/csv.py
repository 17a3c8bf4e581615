"""An audit as one table: a row a finding, and a row for each model and launch file that has none."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from tritium.migration.finding import Audit, Finding
from tritium.migration.reports.fate import fate_of_launch, fate_of_model

_HEAD = (
    *("deployment", "path", "name", "kind", "fate", "score"),
    *("rule", "severity", "line", "column", "message", "advice"),
)


def as_csv(audits: Sequence[Audit]) -> str:
    """Write the table, its head included."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEAD)
    for audit in audits:
        writer.writerows(_rows(audit))
    return text.getvalue()


def _rows(audit: Audit) -> Iterator[tuple[object, ...]]:
    for model in audit.models:
        about = (audit.root, model.path, model.name, model.kind, fate_of_model(model).value, str(model.score))
        yield from _about(about, model.findings)
    for launch in audit.launches:
        about = (audit.root, launch.path, "", launch.kind, fate_of_launch(launch).value, "")
        yield from _about(about, launch.findings)
    for finding in audit.others:
        yield (audit.root, finding.path, "", "", "", "", *_finding(finding))


def _about(about: tuple[object, ...], findings: Iterable[Finding]) -> Iterator[tuple[object, ...]]:
    rows = [(about[0], f.path, *about[2:], *_finding(f)) for f in findings]
    yield from rows or [(*about, "", "", "", "", "", "")]


def _finding(finding: Finding) -> tuple[object, ...]:
    return (finding.rule, finding.severity.value, finding.line, finding.column, finding.message, finding.advice)
