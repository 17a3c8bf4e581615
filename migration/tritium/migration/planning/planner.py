"""The planner: what rules would change, what answers decide, what is left out and why, and the files that result.

survey -> findings -> changes -> asked for? -> do they meet? -> does the file still read? -> plan
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tritium.migration.audit import check, is_deployment
from tritium.migration.below import link_on_the_way
from tritium.migration.deployment import Deployment
from tritium.migration.finding import Finding, Severity
from tritium.migration.planning import collapse
from tritium.migration.planning.answers import Answers
from tritium.migration.planning.beside import METRICS, beside
from tritium.migration.planning.dashboard import comparison
from tritium.migration.planning.kserve import runtimes
from tritium.migration.planning.own_container import own_containers
from tritium.migration.planning.plan import GONE, Change, Note, Piece, Plan, Withheld
from tritium.migration.planning.proposals import FLEET, change_of, fleets
from tritium.migration.planning.questions import answered, checkpoint_of, questions
from tritium.migration.planning.saved import digest
from tritium.migration.planning.seldon import servers
from tritium.migration.planning.soundness import reads_as_before
from tritium.migration.rules.registry import rule
from tritium.migration.survey import survey
from tritium.migration.text.edit import Edit, Overlap, rewrite
from tritium.migration.text.source import Span, encode

ALL = "ALL"
"""In place of a rule's id: the unsafe changes of every rule."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for beside a deployment: answers, rules whose unsafe changes are made, metrics in place."""

    answers: Answers = field(default_factory=Answers)
    unsafe: frozenset[str] = frozenset()
    replace_metrics: bool = False
    aside: frozenset[Path] = frozenset()


class NoDeployment(Exception):
    """There is nothing of Triton's here."""


def no_rules(names: Iterable[str]) -> list[str]:
    """Return which of these are neither the id of a rule, `FLEET` nor `ALL`, in order."""
    return sorted(name for name in names if name not in (ALL, FLEET) and rule(name) is None)


def make_plan(root: Path, wishes: Wishes) -> Plan:
    """Plan the move of the deployment below `root`; nothing is written.

    Raises:
        NoDeployment: nothing of Triton's was found.
        SurveyError: there is no such folder.
    """
    deployment = survey(root, target=wishes.answers.target, aside=wishes.aside)
    if not is_deployment(deployment):
        raise NoDeployment(f"{root} holds no Triton deployment: nothing to plan")
    findings = check(deployment)
    asked = _asked(wishes)
    merged, merging = _collapses(deployment, findings, wishes.answers, asked)
    groups = fleets(deployment)
    wanted = [*merging, *_wanted(deployment, findings, wishes), *groups.changes]
    if asked & {ALL, collapse.RULE}:
        wanted = list(_left_by(merging, wanted))
    changes, withheld = _chosen(deployment, wanted, asked)
    gone = {path: GONE for change in changes for path in change.removes}
    return Plan(
        str(deployment.root),
        inputs={str(path): digest(encode(source.text)) for path, source in deployment.sources.items()}
        | {path: digest((deployment.root / path).read_bytes()) for path in gone},
        results={path: digest(encode(text)) for path, text in texts(deployment, changes).items()} | gone,
        changes=changes,
        withheld=withheld,
        questions=list(questions(deployment, findings, wishes.answers)),
        notes=[*_notes(findings, changes), *_merged(deployment, merged, changes), *_remarks(deployment, groups.kept)],
        aside=sorted(str(path) for path in wishes.aside),
    )


def _asked(wishes: Wishes) -> frozenset[str]:
    """Return the rules whose unsafe changes are made; a launcher of ranks has no engine once there is one model."""
    metrics = METRICS if wishes.replace_metrics else frozenset()
    launcher = {"L05"} if collapse.RULE in wishes.unsafe else set()
    return wishes.unsafe | metrics | launcher


def _collapses(
    deployment: Deployment, findings: tuple[Finding, ...], answers: Answers, asked: frozenset[str]
) -> tuple[list[collapse.Collapse], list[Change]]:
    """Return what groups of models become, and the changes of those whose checkpoint is known."""
    found, changes = list(collapse.collapses(deployment)), []
    for one in found:
        guess = bool(asked & {ALL, "M05"})
        checkpoint = checkpoint_of(deployment, findings, one.engine, answers, guess=guess)
        if not one.why_not and checkpoint:
            changes.append(collapse.change_of(deployment, one, checkpoint))
    return found, changes


def _left_by(merging: list[Change], wanted: list[Change]) -> Iterator[Change]:
    """Yield the changes that have something left to change where groups become one model."""
    gone = {path for change in merging for path in change.removes}
    served = {change.path for change in merging}
    for change in wanted:
        named = change.rule == "M05" and change.path in served
        if change in merging or not (named or gone & set(change.paths)):
            yield change


def _merged(deployment: Deployment, found: list[collapse.Collapse], changes: list[Change]) -> Iterator[Note]:
    """Yield what stays to say of groups: what they would become, or what becoming one model leaves to a person."""
    made = {change.path for change in changes if change.rule == collapse.RULE}
    for one in found:
        if str(one.engine.place) in made:
            yield from collapse.remarks(deployment, one)
        else:
            yield collapse.proposal(one)


def edits_of(pieces: Iterable[Piece]) -> list[Edit]:
    """Return replacements as edits of a text."""
    return [Edit(Path(piece.path), Span(piece.start, piece.end), piece.new) for piece in pieces]


def texts(deployment: Deployment, changes: Iterable[Change]) -> dict[str, str]:
    """Return the text of every file that changes write."""
    found: dict[str, list[Piece]] = {}
    made: dict[str, str] = {}
    for change in changes:
        for piece in change.pieces:
            found.setdefault(piece.path, []).append(piece)
        made |= {new.path: new.text for new in change.creates}
    return made | {
        path: rewrite(deployment.sources[Path(path)].text, edits_of(pieces)) for path, pieces in found.items()
    }


def _wanted(deployment: Deployment, findings: tuple[Finding, ...], wishes: Wishes) -> Iterator[Change]:
    """Yield every change that somebody may want; what was answered goes before what was guessed."""
    told = list(answered(deployment, findings, wishes.answers))
    yield from told
    places = {(change.rule, change.path) for change in told}
    for finding in findings:
        if finding.fix is not None and (finding.rule, str(finding.path)) not in places:
            yield change_of(finding, finding.fix)
    yield from beside(deployment, replace=wishes.replace_metrics)
    yield from comparison(deployment)
    yield from runtimes(deployment)
    yield from servers(deployment)
    yield from own_containers(deployment)


def _chosen(
    deployment: Deployment, wanted: list[Change], unsafe: frozenset[str]
) -> tuple[list[Change], list[Withheld]]:
    """Divide changes into those that are made and those that are not; a change is made whole or not at all."""
    taken: list[Change] = []
    left: list[Withheld] = []
    for change in sorted(wanted, key=lambda one: not one.safe):
        if not change.safe and not unsafe & {ALL, change.rule}:
            left.append(Withheld(change, f"unsafe: ask for it with --unsafe={change.rule}"))
        elif reason := _obstacle(deployment, taken, change):
            left.append(Withheld(change, reason))
        else:
            taken.append(change)
    by_place = sorted(taken, key=lambda one: (one.path, one.line, one.rule))
    return by_place, sorted(left, key=lambda one: (one.change.path, one.change.line, one.change.rule))


def _obstacle(deployment: Deployment, taken: list[Change], change: Change) -> str:
    """Say why a change cannot be made together with others; "" where it can."""
    for path in change.paths:
        place = deployment.root / path
        if place.is_symlink():
            return "left as it is: the file is a link"
        if (link := link_on_the_way(deployment.root, path)) is not None:
            return f"left as it is: {link} is a link, and what it leads to may serve others"
        if Path(path) not in deployment.sources:
            continue
        text = deployment.sources[Path(path)].text
        others = [piece for one in taken for piece in one.pieces if piece.path == path]
        own = [piece for piece in change.pieces if piece.path == path]
        try:
            after = rewrite(text, edits_of([*others, *own]))
        except Overlap:
            return "meets another change: plan again when that is applied"
        if not reads_as_before(Path(path), text, after):
            return "left as it is: the file would not read as before"
    return ""


def _notes(findings: tuple[Finding, ...], changes: list[Change]) -> Iterator[Note]:
    """Yield what stays for a person."""
    settled = {(change.rule, change.path, change.line) for change in changes}
    gone = {path for change in changes for path in change.removes}
    for finding in findings:
        place = (finding.rule, str(finding.path), finding.line)
        if (
            finding.severity.rank >= Severity.TODO.rank
            and place not in settled
            and str(finding.path) not in gone
            and finding.severity is not (Severity.QUESTION)
        ):
            yield Note(
                finding.rule, finding.severity.value, str(finding.path), finding.line, finding.message, finding.advice
            )


def _remarks(deployment: Deployment, kept: list[str]) -> Iterator[Note]:
    for text in kept:
        yield Note(FLEET, Severity.INFO.value, "", 0, text)
    for path in deployment.skipped:
        yield Note("", Severity.INFO.value, str(path), 0, "not understood as a model's configuration: left as it is")
