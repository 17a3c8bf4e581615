"""What becomes of each model and launch file, and the shares of a deployment: the one-screen answer.

A model or file has the fate of its gravest finding; a compiled language model whose checkpoint is asked for needs an
answer rather than a rebuild, for the checkpoint is all that is needed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tritium.migration.finding import Audit, Finding, LaunchReport, ModelReport, Severity, Verdict


class Fate(StrEnum):
    """From the best to the worst."""

    AS_IS = "as is"
    REWRITTEN = "rewritten"
    BY_HAND = "by hand"
    ANSWER = "needs an answer"
    REBUILT = "must be rebuilt"
    UNSUPPORTED = "unsupported"
    BROKEN = "never worked on Triton"


_BY_SEVERITY = {
    Severity.INFO: Fate.AS_IS,
    Severity.CHANGE: Fate.REWRITTEN,
    Severity.TODO: Fate.BY_HAND,
    Severity.QUESTION: Fate.ANSWER,
    Severity.REBUILD: Fate.REBUILT,
    Severity.BLOCKER: Fate.UNSUPPORTED,
}
_BY_VERDICT = {
    Verdict.UNKNOWN: Fate.ANSWER,
    Verdict.UNSUPPORTED: Fate.UNSUPPORTED,
    Verdict.BROKEN: Fate.BROKEN,
}


@dataclass(frozen=True, slots=True)
class Share:
    """One fate: how many models and files have it, and what part of all they are."""

    fate: Fate
    count: int
    percent: int


def fate_of_model(model: ModelReport) -> Fate:
    """Return what becomes of a model."""
    if model.verdict in _BY_VERDICT:
        return _BY_VERDICT[model.verdict]
    gravest = _gravest(model.findings)
    asked = any(finding.severity is Severity.QUESTION for finding in model.findings)
    if model.verdict is Verdict.CONVERT:
        return Fate.ANSWER if asked else Fate.REBUILT
    return gravest


def fate_of_launch(launch: LaunchReport) -> Fate:
    """Return what becomes of a file that starts the server."""
    blockers = [finding for finding in launch.findings if finding.severity is Severity.BLOCKER]
    if blockers and all(finding.already for finding in blockers):
        return Fate.BROKEN
    return _gravest(launch.findings)


def shares(audits: Sequence[Audit]) -> tuple[Share, ...]:
    """Return the fates of all models and launch files, best first, in whole percents that add up to 100."""
    counts: Counter[Fate] = Counter()
    for audit in audits:
        counts.update(fate_of_model(model) for model in audit.models)
        counts.update(fate_of_launch(launch) for launch in audit.launches if launch.kind != "document")
    total = counts.total()
    if not total:
        return ()
    exact = {fate: 100 * counts[fate] / total for fate in Fate if counts[fate]}
    whole = {fate: int(part) for fate, part in exact.items()}
    # The percents that are cut most get what is missing to 100.
    for fate in sorted(exact, key=lambda fate: whole[fate] - exact[fate])[: 100 - sum(whole.values())]:
        whole[fate] += 1
    return tuple(Share(fate, counts[fate], whole[fate]) for fate in exact)


def most_frequent(audits: Sequence[Audit], least: Severity = Severity.CHANGE) -> list[tuple[str, int]]:
    """Return the rules that ask for something, by how many findings they have."""
    counts = Counter(f.rule for audit in audits for f in audit.findings if f.severity.rank >= least.rank)
    return counts.most_common()


def _gravest(findings: Iterable[Finding]) -> Fate:
    gravest = max((finding.severity for finding in findings), key=lambda severity: severity.rank, default=Severity.INFO)
    return _BY_SEVERITY[gravest]
