"""A plan carried out where the deployment lies, and taken back to the byte."""

from collections.abc import Callable
from pathlib import Path

from tritium.migration.applying.disk import replace
from tritium.migration.applying.journal import Entry, Journal, Record, State, digest_of
from tritium.migration.planning.plan import Plan
from tritium.migration.planning.planner import edits_of
from tritium.migration.planning.saved import check_fresh, digest
from tritium.migration.text.edit import rewrite
from tritium.migration.text.source import decode, encode

Write = Callable[[Path, bytes, Path | None], None]
"""Writes a file whole, with the mode of another."""


class Refused(Exception):
    """What was asked for would lose something, or makes no sense here."""


def written(plan: Plan, path: str, before: bytes) -> bytes:
    """Return a file's bytes as the plan writes them.

    Raises:
        Refused: they are not what the plan says: it was edited by hand.
    """
    new = plan.creates.get(path)
    text = new if new is not None else rewrite(decode(before), edits_of(plan.pieces[path]))
    raw = encode(text)
    if digest(raw) != plan.results[path]:
        raise Refused(f"{path}: the plan's edits do not make what the plan promises; make it again")
    return raw


def apply_in_place(plan: Plan, root: Path, write: Write = replace) -> list[str]:
    """Write every file of a plan, and return which; none where all of it is there already.

    An apply that was interrupted is resumed by the same plan.

    Raises:
        Refused: another plan was begun or applied here, and not taken back.
        StalePlan: the deployment has changed since.
    """
    journal = Journal(root)
    record = journal.read()
    if record is not None and {entry.path: entry.after for entry in record.entries} != plan.results:
        raise Refused(f"{root}: another plan was applied here; dynamo-migrate rollback {root} takes it back")
    if record is None:
        check_fresh(plan, root)
        if not plan.results:
            return []
        entries = [Entry(path, digest_of(root / path), after) for path, after in sorted(plan.results.items())]
        for entry in entries:
            written(plan, entry.path, (root / entry.path).read_bytes() if entry.before else b"")
        journal.begin(entries, _missing_folders(root, plan))
        record = Record(State.BEGUN, entries)
    elif record.state is State.DONE:
        _refuse_changed(root, record)
        return []
    return _carry_out(plan, root, journal, write)


def _carry_out(plan: Plan, root: Path, journal: Journal, write: Write) -> list[str]:
    record = journal.read()
    if record is None:
        raise Refused(f"{root}: the journal has gone")
    _refuse_changed(root, record)
    for entry in record.entries:
        path = root / entry.path
        if digest_of(path) == entry.after:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if entry.before else b""
        write(path, written(plan, entry.path, before), path if entry.before else None)
    journal.finish(record)
    return [entry.path for entry in record.entries]


def roll_back(root: Path, *, force: bool = False, write: Write = replace) -> list[str]:
    """Put everything back as it was before an apply in place, and return which files; new ones are removed.

    Raises:
        Refused: nothing was applied here, or a file was changed since, which only `force` gives up.
    """
    journal = Journal(root)
    record = journal.read()
    if record is None:
        raise Refused(f"{root}: nothing was applied here in place")
    if not force:
        _refuse_changed(root, record)
    for entry in record.entries:
        path = root / entry.path
        if entry.before:
            kept = journal.backup(entry.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, kept.read_bytes(), kept)
        else:
            path.unlink(missing_ok=True)
        path.with_name(f".{path.name}.dynamo-migrate").unlink(missing_ok=True)
    for folder in reversed(record.folders):
        if (root / folder).is_dir() and not any((root / folder).iterdir()):
            (root / folder).rmdir()
    journal.end()
    return [entry.path for entry in record.entries]


def _refuse_changed(root: Path, record: Record) -> None:
    changed = [one.path for one in record.entries if digest_of(root / one.path) not in (one.before, one.after)]
    if changed:
        shown = "".join(f"\n  {path}" for path in changed)
        raise Refused(f"changed since they were written; rollback --force gives these changes up:{shown}")


def _missing_folders(root: Path, plan: Plan) -> list[str]:
    """Return the folders that new files need, outer ones first."""
    missing = {parent for path in plan.creates for parent in Path(path).parents if not (root / parent).exists()}
    return [str(folder) for folder in sorted(missing, key=lambda one: len(one.parts))]
