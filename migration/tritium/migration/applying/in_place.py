"""A plan carried out where the deployment lies, and taken back to the byte."""

from collections.abc import Callable, Collection
from pathlib import Path

from tritium.migration.applying.disk import part_of, remove_empty, replace
from tritium.migration.applying.journal import Entry, Journal, Record, State, digest_of, journals, sweep
from tritium.migration.applying.place import Refused, alone, check_places
from tritium.migration.planning.plan import GONE, Plan
from tritium.migration.planning.planner import edits_of
from tritium.migration.planning.saved import check_fresh, digest, is_done
from tritium.migration.text.edit import Overlap, rewrite
from tritium.migration.text.source import decode, encode

Write = Callable[[Path, bytes, Path | None], None]
"""Writes a file whole, with the mode of another."""


def written(plan: Plan, path: str, before: bytes) -> bytes:
    """Return a file's bytes as the plan writes them.

    Raises:
        Refused: they are not what the plan says: it was edited by hand.
    """
    if plan.results[path] == GONE:
        return b""
    new = plan.creates.get(path)
    try:
        raw = encode(new if new is not None else rewrite(decode(before), edits_of(plan.pieces.get(path, []))))
    except (Overlap, UnicodeEncodeError):
        raw = b""
    if digest(raw) != plan.results[path]:
        raise Refused(f"{path}: the plan's edits do not make what the plan promises; make it again")
    return raw


def apply_in_place(plan: Plan, root: Path, write: Write = replace) -> list[str]:
    """Write every file of a plan, and return which; none where all of it is there already.

    An apply that was interrupted is resumed by the same plan.

    Raises:
        Refused: another plan was begun here, and not finished; or a file was changed since, or lies elsewhere.
        StalePlan: the deployment has changed since.
    """
    with alone(root):
        return _apply(plan, root, write)


def _apply(plan: Plan, root: Path, write: Write) -> list[str]:
    check_places(root, [*plan.results, *plan.creates])
    past = journals(root)
    record = past[0].read() if past else None
    same = record is not None and {entry.path: entry.after for entry in record.entries} == plan.results
    if record is not None and same:
        _refuse_changed(root, record)
        return [] if record.state is State.DONE else _carry_out(plan, root, past[0], record, write)
    if record is not None and record.state is State.BEGUN:
        raise Refused(f"{root}: another plan was begun here; apply that one, or dynamo-migrate rollback {root}")
    if is_done(plan, root):
        return []
    check_fresh(plan, root)
    entries = [Entry(path, digest_of(root / path), after) for path, after in sorted(plan.results.items())]
    for entry in entries:
        written(plan, entry.path, (root / entry.path).read_bytes() if entry.before else b"")
    journal = Journal(root, len(past) + 1)
    record = Record(State.BEGUN, entries, _missing_folders(root, plan), emptied(root, plan))
    return _carry_out(plan, root, journal, journal.begin(record), write)


def _carry_out(plan: Plan, root: Path, journal: Journal, record: Record, write: Write) -> list[str]:
    for entry in record.entries:
        path = root / entry.path
        if digest_of(path) == entry.after:
            continue
        if entry.after == GONE:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_bytes() if entry.before else b""
        write(path, written(plan, entry.path, before), path if entry.before else None)
    for folder in reversed(record.gone):
        remove_empty(root / folder)
    journal.finish(record)
    return [entry.path for entry in record.entries]


def roll_back(root: Path, *, force: bool = False, write: Write = replace) -> list[str]:
    """Put everything back as it was before all applies in place, and return which files; new ones are removed.

    None where nothing was applied, or all of it was taken back already.

    Raises:
        Refused: there is no such folder, or a file was changed since, which only `force` gives up.
    """
    if not root.is_dir():
        raise Refused(f"{root} is no folder; name the deployment that was changed in place")
    with alone(root):
        return _roll_back(root, write, force=force)


def _roll_back(root: Path, write: Write, *, force: bool) -> list[str]:
    past = journals(root)
    if not past:
        sweep(root)
    for record in [journal.read() for journal in past]:
        check_places(root, [*(entry.path for entry in record.entries), *record.folders, *record.gone])
    if not force:
        for earlier, journal in enumerate(past):
            later = {entry.path for one in past[:earlier] for entry in one.read().entries}
            _refuse_changed(root, journal.read(), later)
    names = {entry.path for journal in past for entry in journal.read().entries}
    for journal in past:
        _take_back(root, journal, write)
    return sorted(names)


def _take_back(root: Path, journal: Journal, write: Write) -> None:
    record = journal.read()
    for folder in record.gone:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for entry in record.entries:
        path = root / entry.path
        if entry.before:
            kept = journal.backup(entry.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, kept.read_bytes(), kept)
        else:
            path.unlink(missing_ok=True)
        part_of(path).unlink(missing_ok=True)
    for folder in reversed(record.folders):
        remove_empty(root / folder)
    journal.end()


def _refuse_changed(root: Path, record: Record, later: Collection[str] = ()) -> None:
    """Refuse where a file is neither what it was nor what it became; those that a `later` apply wrote aside."""
    changed = [
        one.path
        for one in record.entries
        if one.path not in later and digest_of(root / one.path) not in (one.before, one.after)
    ]
    if changed:
        shown = "".join(f"\n  {path}" for path in changed)
        raise Refused(f"changed since they were written; rollback --force gives these changes up:{shown}")


def _missing_folders(root: Path, plan: Plan) -> list[str]:
    """Return the folders that new files need, outer ones first."""
    missing = {parent for path in plan.creates for parent in Path(path).parents if not (root / parent).exists()}
    return [str(folder) for folder in sorted(missing, key=lambda one: len(one.parts))]


def emptied(root: Path, plan: Plan) -> list[str]:
    """Return the folders in which a plan leaves no file, outer ones first; empty ones below them go along."""
    removed = set(plan.removes)
    kept = {str(Path(path).parent) for path in plan.creates}
    found: set[str] = set()
    for top in {_outermost(root, Path(path).parent, removed) for path in removed} - {Path()}:
        found |= {str(top), *(str(one.relative_to(root)) for one in (root / top).rglob("*") if one.is_dir())}
    return sorted(found - kept, key=lambda one: (len(Path(one).parts), one))


def _outermost(root: Path, folder: Path, removed: Collection[str]) -> Path:
    """Return the outermost folder around one in which every file is removed; the empty path where it keeps some."""
    best = Path()
    for one in (folder, *folder.parents):
        if one == Path() or any(str(p.relative_to(root)) not in removed for p in _entries(root / one)):
            return best
        best = one
    return best


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
