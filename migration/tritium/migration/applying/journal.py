"""The journal of an apply in place: what it writes, and how it was before.

    (none) --begin--> BEGUN --finish--> DONE --begin--> ... the next one
                        |                 |
                        +----- end -------+--> the one before, or (none)

It stands in a folder of `.dynamo-migrate` that is called by its number; rollback goes through them from the last.

Backups are complete before BEGUN is written, and BEGUN before the first file is: whatever happens after, every file is
the old one or the new one, and both are known.
"""

import json
import shutil
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from enum import StrEnum
from pathlib import Path

import msgspec

from tritium.migration.applying.disk import flush_folder, replace
from tritium.migration.planning.saved import digest

FOLDER = ".dynamo-migrate"


class State(StrEnum):
    """How far an apply came."""

    BEGUN = "begun"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its digests before ("" where there was none) and after ("" where it is taken away)."""

    path: str
    before: str
    after: str


@dataclass(slots=True)
class Record:
    """What is written down."""

    state: State
    entries: list[Entry] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Folders that are made for new files, outer ones first."""
    gone: list[str] = field(default_factory=list)
    """Folders that files which are taken away leave empty, outer ones first."""


class BadJournal(Exception):
    """A journal that cannot be read."""


class Journal:
    """The journal of one apply."""

    def __init__(self, root: Path, number: int) -> None:
        self._root = root
        self._folder = root / FOLDER / str(number)
        self._file = self._folder / "journal.json"

    def read(self) -> Record:
        """Return what is written down.

        Raises:
            BadJournal: somebody else wrote it.
        """
        try:
            return msgspec.convert(json.loads(self._file.read_bytes()), Record)
        except (OSError, ValueError, RecursionError) as error:
            raise BadJournal(f"{self._file} cannot be read: {error}") from error

    def backup(self, path: str) -> Path:
        """Return where a file's old content is kept."""
        return self._folder / "backup" / path

    def begin(self, record: Record) -> Record:
        """Keep what is about to be replaced, then write down that it is."""
        # Backups without a journal are those of an apply that never began.
        sweep(self._root, self._folder.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder.parent / ".gitignore").write_text("*\n")
        for entry in record.entries:
            if entry.before:
                kept = self.backup(entry.path)
                kept.parent.mkdir(parents=True, exist_ok=True)
                replace(kept, (self._root / entry.path).read_bytes(), like=self._root / entry.path)
        self._write(record)
        return record

    def finish(self, record: Record) -> None:
        """Write down that every file is the new one."""
        self._write(replaced(record, state=State.DONE))

    def end(self) -> None:
        """Take the journal away, then its backups; the folder of them all goes with the first."""
        self._file.unlink(missing_ok=True)
        flush_folder(self._folder)
        first = self._folder.name == "1"
        shutil.rmtree(self._folder.parent if first else self._folder)

    def _write(self, record: Record) -> None:
        replace(self._file, json.dumps(msgspec.to_builtins(record), indent=1).encode())


def journals(root: Path) -> list[Journal]:
    """Return the journals of a folder, the last one first."""
    if (root / FOLDER).is_symlink():
        raise BadJournal(f"{root / FOLDER} is a link, which no apply has made; take it away")
    found = (one.parent.name for one in (root / FOLDER).glob("*/journal.json"))
    return [Journal(root, number) for number in sorted((int(name) for name in found if name.isdecimal()), reverse=True)]


def sweep(root: Path, number: str = "") -> None:
    """Remove what an apply left that was killed before it began, or a rollback after its end.

    Only where there is no journal (`number`: not that one): otherwise these are the only copies.
    """
    if (root / FOLDER / number).is_dir():
        shutil.rmtree(root / FOLDER / number)


def digest_of(path: Path) -> str:
    """Return the digest of a file; "" where there is none."""
    return digest(path.read_bytes()) if path.is_file() else ""
