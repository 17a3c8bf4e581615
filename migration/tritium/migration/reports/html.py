"""An audit as one HTML file that needs nothing else: shares for who decides, findings with their lines for who acts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from tritium.migration.finding import Audit, Finding, Severity
from tritium.migration.reports.fate import fate_of_launch, fate_of_model, most_frequent, shares
from tritium.migration.rules.page import Page, page_of
from tritium.migration.rules.registry import rules


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule that asks for something in these deployments, and what it found."""

    page: Page
    severity: Severity
    findings: tuple[tuple[Audit, Finding], ...]


def as_html(audits: Sequence[Audit]) -> str:
    """Write the page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = _prose
    template = environment.get_template("report.html.j2")
    return template.render(
        audits=[audit for audit in audits if audit.is_deployment or audit.others],
        others=[audit for audit in audits if not audit.is_deployment and not audit.others],
        shares=shares(audits),
        asked=_asked(audits),
        models=sum(len(audit.models) for audit in audits),
        files=sum(len(audit.launches) for audit in audits),
        fate_of_model=fate_of_model,
        fate_of_launch=fate_of_launch,
        severities=list(Severity),
        version=version("tritium"),
    )


def _prose(text: str) -> Markup:
    """Return a text of a rule's docstring with its code set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)).replace("\n\n", "<br><br>")))  # noqa: S704  (escaped)


def _asked(audits: Sequence[Audit]) -> list[Asked]:
    pages = {rule.id: page_of(type(rule)) for rule in rules()}
    asked = []
    for name, _ in most_frequent(audits):
        found = tuple((audit, f) for audit in audits for f in audit.findings if f.rule == name)
        severity = max((f.severity for _, f in found), key=lambda severity: severity.rank)
        asked.append(Asked(pages[name], severity, found))
    return sorted(asked, key=lambda one: (-one.severity.rank, -len(one.findings), one.page.rule.id))
