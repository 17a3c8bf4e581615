"""An audit as JSON: the one report that programs read, described in docs/migration/README.md."""

import json
from collections.abc import Sequence
from typing import Any

from tritium.migration.finding import Audit, Finding, Group, LaunchReport, ModelReport
from tritium.migration.reports.fate import fate_of_launch, fate_of_model, shares


def as_json(audits: Sequence[Audit]) -> str:
    """Write one audit as an object, several as a list of them."""
    written = [_audit(audit) for audit in audits]
    return json.dumps(written[0] if len(written) == 1 else written, indent=2)


def _audit(audit: Audit) -> dict[str, Any]:
    return {
        "root": str(audit.root),
        "deployment": audit.is_deployment,
        "score": audit.score,
        "shares": {share.fate.name.lower(): share.percent for share in shares([audit])},
        "models": [_model(model) for model in audit.models],
        "groups": [_group(group) for group in audit.groups],
        "launches": [_launch(launch) for launch in audit.launches],
        "findings": [_finding(finding) for finding in audit.others],
        "clients": [str(path) for path in audit.clients],
        "hosts": list(audit.hosts),
        "summary": {verdict.name.lower(): count for verdict, count in audit.counts.items()},
    }


def _model(model: ModelReport) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "verdict": model.verdict.name.lower(),
        "fate": fate_of_model(model).name.lower(),
        "score": model.score,
        "because": model.because,
        "advice": model.advice,
        "evidence": model.evidence,
        "path": str(model.path),
        "versions": list(model.versions),
        "findings": [_finding(f) for f in model.findings],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "path": str(group.path),
        "members": list(group.members),
        "rule": group.rule,
        "message": group.message,
        "advice": group.advice,
    }


def _launch(launch: LaunchReport) -> dict[str, Any]:
    return {
        "path": str(launch.path),
        "kind": launch.kind,
        "fate": fate_of_launch(launch).name.lower(),
        "images": list(launch.images),
        "commands": list(launch.commands),
        "findings": [_finding(f) for f in launch.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "path": str(finding.path),
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "advice": finding.advice,
        "already": finding.already,
        "fix": None if finding.fix is None else "safe" if finding.fix.safe else "unsafe",
    }
