"""An audit as GitHub's workflow commands: each finding becomes an annotation at its line of a pull request."""

from collections.abc import Sequence

from tritium.migration.finding import Audit, Finding, Severity

_LEVELS = {
    Severity.INFO: "notice",
    Severity.CHANGE: "notice",
    Severity.TODO: "warning",
    Severity.QUESTION: "warning",
    Severity.REBUILD: "warning",
    Severity.BLOCKER: "error",
}


def as_github(audits: Sequence[Audit]) -> str:
    """Write one command a finding; remarks that ask for nothing are left out."""
    lines = [
        _command(finding, f"{audit.root}/" if str(audit.root) != "." else "")
        for audit in audits
        for finding in audit.findings
        if finding.severity is not Severity.INFO
    ]
    return "".join(f"{line}\n" for line in lines)


def _command(finding: Finding, folder: str) -> str:
    place = f"file={_property(folder + str(finding.path))}"
    if finding.line:
        place += f",line={finding.line},col={finding.column}"
    text = finding.message + (f" -> {finding.advice}" if finding.advice else "")
    return f"::{_LEVELS[finding.severity]} {place},title={finding.rule}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
