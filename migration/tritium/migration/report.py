"""An audit as a person reads it, and as JSON."""

import json
from collections.abc import Iterator
from typing import Any

from tritium.migration.finding import Audit, Finding, LaunchReport, ModelReport, Severity, Verdict

_MARK = {
    Verdict.SERVES: "+",
    Verdict.CHANGE: "~",
    Verdict.CONVERT: "!",
    Verdict.UNKNOWN: "?",
    Verdict.UNSUPPORTED: "x",
    Verdict.BROKEN: "x",
}


def as_text(audit: Audit) -> str:
    """Write the report: models, launch files, then the sum."""
    if not audit.is_deployment:
        return f"{audit.root}: no Triton deployment found (no model configuration, nothing that starts tritonserver).\n"
    return "\n".join(_lines(audit)) + "\n"


def _lines(audit: Audit) -> Iterator[str]:
    if audit.models:
        yield "Models"
        width = max(len(model.name) for model in audit.models)
        kinds = max(len(model.kind) for model in audit.models)
        for model in audit.models:
            about = f"{model.kind:{kinds}}  {model.verdict}: {model.because}"
            yield f"  {_MARK[model.verdict]} {model.name:{width}}  {about}"
            indent = " " * (width + 6)
            yield indent + str(model.path)
            if model.advice:
                yield indent + model.advice
            yield from (indent + line for finding in model.findings for line in _finding(finding))
        yield ""
    if audit.launches:
        yield "Launch files"
        for launch in audit.launches:
            yield f"  {launch.path}  ({launch.kind})"
            yield from (f"      $ {command}" for command in launch.commands)
            yield from (f"      {line}" for finding in launch.findings for line in _finding(finding))
        yield ""
    yield _summary(audit)


def _finding(finding: Finding) -> Iterator[str]:
    place = f"{finding.path}:{finding.line}:{finding.column}  " if finding.line else ""
    yield f"{place}{finding.severity} {finding.rule}: {finding.message}"
    if finding.advice:
        yield f"    {finding.advice}"


def _summary(audit: Audit) -> str:
    total = len(audit.models)
    parts = [f"{count} {verdict}" for verdict, count in audit.counts.items()]
    models = f"{total} model{'s' * (total != 1)}" + (f": {', '.join(parts)}." if parts else " found.")
    count = len(audit.launches)
    blockers = sum(f.severity is Severity.BLOCKER for launch in audit.launches for f in launch.findings)
    launches = f"{count} launch file{'s' * (count != 1)}" + (f", {blockers} with a blocker" if blockers else "")
    return f"{models} {launches}. Nothing was changed."


def as_json(audit: Audit) -> str:
    """Write the report as one JSON object: `models`, `launches`, `summary`."""
    return json.dumps(
        {
            "root": str(audit.root),
            "deployment": audit.is_deployment,
            "models": [_model(model) for model in audit.models],
            "launches": [_launch(launch) for launch in audit.launches],
            "summary": {verdict.name.lower(): count for verdict, count in audit.counts.items()},
        },
        indent=2,
    )


def _model(model: ModelReport) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "verdict": model.verdict.name.lower(),
        "because": model.because,
        "advice": model.advice,
        "path": str(model.path),
        "versions": list(model.versions),
        "findings": [_as_object(f) for f in model.findings],
    }


def _launch(launch: LaunchReport) -> dict[str, Any]:
    return {
        "path": str(launch.path),
        "kind": launch.kind,
        "images": list(launch.images),
        "commands": list(launch.commands),
        "findings": [_as_object(f) for f in launch.findings],
    }


def _as_object(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "path": str(finding.path),
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "advice": finding.advice,
    }
