"""Comments that silence a finding: `# dynamo-migrate: ignore[L03]` on its line, or alone on the line above it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tritium.migration.finding import Finding
from tritium.migration.text.source import Source

_IGNORE = re.compile(r"dynamo-migrate:\s*ignore(?:\[([\w\s,]*)\])?")


def heard(findings: Iterable[Finding], sources: Mapping[Path, Source]) -> Iterator[Finding]:
    """Yield the findings that no comment silences."""
    for finding in findings:
        source = sources.get(finding.path)
        if source is None or not _is_silenced(finding, source):
            yield finding


def _is_silenced(finding: Finding, source: Source) -> bool:
    if not finding.line:
        # What is said of a whole file is silenced in its first lines.
        lines = source.lines[:3]
    else:
        above = source.line(finding.line - 1).strip() if finding.line > 1 else ""
        lines = [source.line(finding.line), above if above.startswith(("#", "//", "{{/*", "<!--")) else ""]
    return any(_names(match, finding.rule) for line in lines if (match := _IGNORE.search(line)))


def _names(match: re.Match[str], rule: str) -> bool:
    """Tell whether an ignore comment is for a rule; one without brackets is for all."""
    return match[1] is None or rule in {name.strip() for name in match[1].split(",")}
