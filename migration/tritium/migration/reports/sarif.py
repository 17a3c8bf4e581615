"""An audit as SARIF 2.1.0, which code scanners and editors read; fixes are carried along."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from tritium.migration.finding import Audit, Finding, Severity
from tritium.migration.rules.page import page_of
from tritium.migration.rules.registry import rules
from tritium.migration.secrets import covered
from tritium.migration.text.edit import Fix

_LEVELS = {
    Severity.INFO: "note",
    Severity.CHANGE: "note",
    Severity.TODO: "warning",
    Severity.QUESTION: "warning",
    Severity.REBUILD: "warning",
    Severity.BLOCKER: "error",
}
_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def as_sarif(audits: Sequence[Audit]) -> str:
    """Write one run, with the rules that found something."""
    found = [(audit, finding) for audit in audits for finding in audit.findings]
    used = {finding.rule for _, finding in found}
    driver = {
        "name": "dynamo-migrate",
        "version": version("tritium"),
        "rules": [_rule(rule.id) for rule in rules() if rule.id in used],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(audit, finding, several=len(audits) > 1) for audit, finding in found],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(name: str) -> dict[str, Any]:
    page = page_of(next(type(rule) for rule in rules() if rule.id == name))
    return {
        "id": name,
        "name": page.rule.__name__,
        "shortDescription": {"text": page.summary},
        "fullDescription": {"text": page.text or page.summary},
        "help": {"text": page.markdown(), "markdown": page.markdown()},
        "defaultConfiguration": {"level": _LEVELS[page.rule.severity]},
    }


def _result(audit: Audit, finding: Finding, *, several: bool) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(audit, str(finding.path), several=several)}}
    if finding.line:
        place["region"] = {"startLine": finding.line, "startColumn": finding.column}
    text = finding.message + (f"\n{finding.advice}" if finding.advice else "")
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": text},
        "locations": [{"physicalLocation": place}],
        "properties": {"severity": finding.severity.value, "already": finding.already},
    }
    if finding.fix is not None and all(covered(edit.new) == edit.new for edit in finding.fix.edits):
        result["fixes"] = [_fix(audit, finding.fix, several=several)]
    return result


def _fix(audit: Audit, fix: Fix, *, several: bool) -> dict[str, Any]:
    changes: dict[str, list[dict[str, Any]]] = {}
    for edit in fix.edits:
        region = {"charOffset": edit.span.start, "charLength": edit.span.end - edit.span.start}
        replaced = {"deletedRegion": region, "insertedContent": {"text": edit.new}}
        changes.setdefault(_uri(audit, str(edit.path), several=several), []).append(replaced)
    return {
        "artifactChanges": [
            {"artifactLocation": {"uri": uri}, "replacements": replaced} for uri, replaced in changes.items()
        ]
    }


def _uri(audit: Audit, path: str, *, several: bool) -> str:
    from urllib.parse import quote  # noqa: PLC0415  (only this report needs it)

    return quote(f"{audit.root}/{path}" if several else path)
