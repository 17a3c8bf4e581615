"""A plan for people: unified diffs of what it writes, what it leaves out and why, questions, and what is left to do."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from tritium.migration.planning.plan import GONE, Change, Note, Piece, Plan
from tritium.migration.planning.planner import edits_of
from tritium.migration.secrets import covered
from tritium.migration.text.edit import rewrite
from tritium.migration.text.source import decode


def preview(plan: Plan, root: Path, *, diffs: bool = True) -> str:
    """Write the plan down; the deployment must be as it was when the plan was made."""
    parts = [_written(plan, root, diffs=diffs), _left_out(plan, root, diffs=diffs), _asked(plan), _by_hand(plan)]
    return "\n".join(part for part in (*parts, _sum(plan)) if part)


def diff(path: str, before: str, after: str, *, new: bool = False) -> str:
    """Return a unified diff in the form that `patch -p1` takes, with secrets covered."""
    name = Path(path).as_posix()
    found = difflib.unified_diff(_lines(before), _lines(after), "/dev/null" if new else f"a/{name}", f"b/{name}", n=2)
    shown = (line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found)
    return covered("".join(shown)).encode("utf-8", errors="backslashreplace").decode()


def _lines(text: str) -> list[str]:
    """Return the lines with their ends; only a line feed ends one, as in every diff."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _written(plan: Plan, root: Path, *, diffs: bool) -> str:
    if not plan.results:
        return ""
    gone = f", {len(plan.removes)} taken away" if plan.removes else ""
    parts = [f"# {_count(len(plan.results) - len(plan.removes), 'file')} written{gone}\n"]
    for path in sorted(plan.results):
        if plan.results[path] == GONE:
            parts.append(f"#   {path} goes away")
            continue
        own = [change for change in plan.changes if path in change.paths]
        parts += [f"#   {_line(change)}" for change in own]
        if diffs:
            parts.append(
                _diff(root, path, [piece for change in own for piece in change.pieces], plan.creates.get(path))
            )
    return "\n".join(parts) + "\n"


def _left_out(plan: Plan, root: Path, *, diffs: bool) -> str:
    if not plan.withheld:
        return ""
    parts = [f"# {_count(len(plan.withheld), 'change')} left out\n"]
    for one in plan.withheld:
        parts.append(f"#   {_line(one.change)}\n#     {one.reason}")
        if diffs:
            parts += [
                _diff(root, path, one.change.pieces, None)
                for path in one.change.paths
                if path not in {*(new.path for new in one.change.creates), *one.change.removes}
            ]
    return "\n".join(parts) + "\n"


def _diff(root: Path, path: str, pieces: list[Piece], created: str | None) -> str:
    if created is not None:
        return diff(path, "", created, new=True)
    before = decode((root / path).read_bytes())
    return diff(path, before, rewrite(before, edits_of(piece for piece in pieces if piece.path == path)))


def _asked(plan: Plan) -> str:
    if not plan.questions:
        return ""
    open_ones = sum(one.is_open for one in plan.questions)
    how = "; plan again with --ask to answer here, or with --answers FILE to answer in a file" if open_ones else ""
    lines = [f"# {_count(len(plan.questions), 'question')}, {open_ones} of them open{how}"]
    for question in plan.questions:
        named = f" [named here: {', '.join(question.candidates)}]" if question.candidates else ""
        said = question.answer or (f"not answered; assumed: {question.assumed}" if question.assumed else "not answered")
        # Most texts begin with what they are about.
        place = question.topic if question.text.startswith(question.about) else f"{question.topic} {question.about}"
        lines += [f"#   {place}: {question.text}{named}", f"#     {said}"]
    return covered("\n".join(lines)) + "\n"


def _by_hand(plan: Plan) -> str:
    if not plan.notes:
        return ""
    lines = [f"# Left for a person ({_count(len(plan.notes), 'thing')})"]
    for note in plan.notes:
        lines += list(_note(note))
    return "\n".join(lines) + "\n"


def _note(note: Note) -> Iterator[str]:
    place = f"{note.path}:{note.line}" if note.line else note.path
    yield "#   " + " ".join(part for part in (place, note.rule, f"({note.severity})", note.message) if part)
    if note.advice:
        yield f"#     {note.advice}"


def _line(change: Change) -> str:
    place = f"{change.path}:{change.line}" if change.line else change.path
    return covered(f"{place} {change.rule} {'' if change.safe else '(unsafe) '}{change.message}")


def _sum(plan: Plan) -> str:
    open_questions = sum(question.is_open for question in plan.questions)
    unsafe = sum(not one.change.safe for one in plan.withheld)
    parts = (
        f"{_count(len(plan.changes), 'change')} in {_count(len(plan.results), 'file')}",
        f"{_count(unsafe, 'unsafe change')} not asked for",
        _count(open_questions, "open question"),
        f"{_count(len(plan.notes), 'thing')} for a person",
    )
    return f"# Plan: {', '.join(parts)}.\n"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
