"""The audit: a deployment is surveyed, every rule looks at it, and what they found is put to models and files."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from tritium.migration.deployment import OF_TRITON, Deployment
from tritium.migration.evidence import evidence_of
from tritium.migration.finding import Audit, Finding, LaunchReport, Severity
from tritium.migration.launches.format import Format
from tritium.migration.models import report
from tritium.migration.rules.ignore import heard
from tritium.migration.rules.registry import rules
from tritium.migration.rules.rule import Rule
from tritium.migration.secrets import covered
from tritium.migration.survey import SurveyError, survey

AuditError = SurveyError
_LONGEST = 200
"""Characters of a line that are shown."""


def audit(root: Path, progress: Callable[[int], None] = lambda _: None) -> Audit:
    """Audit everything below `root`.

    Raises:
        AuditError: there is no such folder.
    """
    deployment = survey(root, progress)
    return judge(deployment, check(deployment), root)


def check(deployment: Deployment, chosen: Iterable[Rule] | None = None) -> tuple[Finding, ...]:
    """Return what the rules (all of them, unless some are chosen) find, without what comments silence."""
    if not is_deployment(deployment):
        return ()
    found = (finding for rule in (rules() if chosen is None else chosen) for finding in rule.find(deployment))
    prose = {launch.source.path for launch in deployment.launches if launch.format is Format.DOCUMENT}
    shown = (_shown(finding, deployment, prose) for finding in heard(found, deployment.sources))
    return tuple(sorted(shown, key=lambda f: (str(f.path), f.line, f.column, f.rule)))


def _shown(finding: Finding, deployment: Deployment, prose: set[Path]) -> Finding:
    """Return a finding as it is shown: with its line, and without secrets."""
    source = deployment.sources.get(finding.path)
    line = source.line(finding.line).strip()[:_LONGEST] if source is not None and finding.line else ""
    finding = replace(finding, message=covered(finding.message), excerpt=covered(line))
    # What a page of documentation says is worth knowing, and starts nothing.
    return replace(finding, severity=Severity.INFO, fix=None) if finding.path in prose else finding


def is_deployment(deployment: Deployment) -> bool:
    """Tell whether this is Triton's: prose about it alone is not."""
    started = any(launch.format is not Format.DOCUMENT for launch in deployment.launches)
    called = any(call.use in OF_TRITON for call in deployment.calls)
    return bool(deployment.models or started or deployment.hosted or called)


def judge(deployment: Deployment, findings: Iterable[Finding], root: Path) -> Audit:
    """Put findings to the models and files they are about, and settle what becomes of each."""
    places = {model.place for model in deployment.models}
    by_model: dict[Path, list[Finding]] = {}
    by_path: dict[Path, list[Finding]] = {}
    for finding in findings:
        place = finding.about or finding.path
        (by_model if place in places else by_path).setdefault(place, []).append(finding)
    if not is_deployment(deployment):
        return Audit(root, skipped=tuple(deployment.skipped))
    evidence = evidence_of(deployment)
    models = tuple(
        replace(report(model, by_model.get(model.place, ())), evidence=evidence.get(model.place, ""))
        for model in deployment.models
    )
    launches = tuple(
        LaunchReport(
            launch.source.path,
            launch.kind,
            tuple(dict.fromkeys(covered(image.shown) for image in launch.images)),
            tuple(covered(command.text) for command in launch.commands),
            tuple(by_path.pop(launch.source.path, ())),
        )
        for launch in deployment.launches
    )
    others = tuple(finding for left in by_path.values() for finding in left)
    groups, skipped = tuple(deployment.groups), tuple(deployment.skipped)
    clients = tuple(dict.fromkeys(call.source.path for call in deployment.calls))
    hosts = tuple(dict.fromkeys(host.platform.value for host in deployment.hosted))
    return Audit(root, models, launches, groups, others, skipped, clients, hosts)
