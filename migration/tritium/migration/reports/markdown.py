"""An audit as Markdown: for a pull request, a wiki, an issue; what is to be done is a list to tick off."""

from collections.abc import Iterator, Sequence

from tritium.migration.finding import Audit, Finding, Severity
from tritium.migration.reports.fate import fate_of_launch, fate_of_model, shares


def as_markdown(audits: Sequence[Audit]) -> str:
    """Write the shares, then each deployment: models, launch files, and what is to be done."""
    lines = ["# Moving to Tritium", ""]
    if found := shares(audits):
        lines += ["| " + " | ".join(share.fate.value for share in found) + " |", "|" + "---|" * len(found)]
        lines += ["| " + " | ".join(f"{share.percent} %" for share in found) + " |", ""]
    for audit in audits:
        lines += _audit(audit)
    return "\n".join(lines) + "\n"


def _audit(audit: Audit) -> Iterator[str]:
    yield f"## {_text(str(audit.root))}"
    yield ""
    if not audit.is_deployment:
        yield "No Triton deployment."
        yield ""
        return
    yield f"Score {audit.score} of 100."
    yield ""
    if audit.models:
        yield "| model | kind | becomes | score | why |"
        yield "|---|---|---|---|---|"
        for model in audit.models:
            row = (f"`{model.name}`", model.kind, fate_of_model(model).value, str(model.score), model.because)
            yield "| " + " | ".join(map(_text, row)) + " |"
        yield ""
    if audit.launches:
        yield "| file | kind | becomes | images |"
        yield "|---|---|---|---|"
        for launch in audit.launches:
            cells = (f"`{launch.path}`", launch.kind, fate_of_launch(launch).value, ", ".join(launch.images))
            yield "| " + " | ".join(map(_text, cells)) + " |"
        yield ""
    asked = [finding for finding in audit.findings if finding.severity is not Severity.INFO]
    if asked:
        yield "### To do"
        yield ""
        for finding in sorted(asked, key=lambda finding: -finding.severity.rank):
            yield f"- [ ] {_item(finding)}"
        yield ""


def _item(finding: Finding) -> str:
    place = f"{finding.path}:{finding.line}" if finding.line else str(finding.path)
    advice = f" → {finding.advice}" if finding.advice else ""
    return _text(f"**{finding.rule}** {finding.severity.value}, `{place}`: {finding.message}{advice}")


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
