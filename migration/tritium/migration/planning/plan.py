"""What a plan holds. It is saved as JSON, read by people as diffs, and carried out by `apply` as it stands.

Offsets are characters of a file's text as text.source decodes it; paths are relative to the deployment's folder.
"""

from dataclasses import dataclass, field

FORMAT = 1
"""The version of the saved form."""
GONE = ""
"""In place of a digest: there is no such file."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One replacement in one file."""

    path: str
    start: int
    end: int
    new: str


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is not there yet."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """What settles one finding: the rule, where, why, and the replacements."""

    rule: str
    path: str
    line: int
    message: str
    safe: bool
    pieces: list[Piece] = field(default_factory=list)
    creates: list[NewFile] = field(default_factory=list)
    removes: list[str] = field(default_factory=list)
    """Files that go away, and with them the folders that they leave empty."""

    @property
    def paths(self) -> list[str]:
        """Return the files it writes or takes away, each once."""
        made = (*(piece.path for piece in self.pieces), *(new.path for new in self.creates))
        return list(dict.fromkeys([*made, *self.removes]))


@dataclass(frozen=True, slots=True)
class Withheld:
    """A change that the plan does not make, and why."""

    change: Change
    reason: str


@dataclass(frozen=True, slots=True)
class Question:
    """A fact that the deployment does not tell.

    `topic` and `about` are its place in the answers file; `assumed` is what the plan goes on with until it is answered,
    and says so. A question with neither `answer` nor `assumed` is open: what hangs on it is not changed.
    """

    topic: str
    about: str
    text: str
    candidates: list[str] = field(default_factory=list)
    assumed: str = ""
    answer: str = ""

    @property
    def is_open(self) -> bool:
        """Tell whether something stays as it is for lack of an answer."""
        return not self.answer and not self.assumed


@dataclass(frozen=True, slots=True)
class Note:
    """What stays for a person: a finding that no change settles, or a file that is left as it is."""

    rule: str
    severity: str
    path: str
    line: int
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `apply` needs to know, and to refuse."""

    root: str
    inputs: dict[str, str]
    """SHA-256 of every file that was read."""
    results: dict[str, str]
    """SHA-256 of every file as the plan writes it; `GONE` of those that it takes away."""
    changes: list[Change] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    aside: list[str] = field(default_factory=list)
    """Absolute paths of files that are no part of the deployment, wherever they lie: plan and answers."""
    format: int = FORMAT

    @property
    def pieces(self) -> dict[str, list[Piece]]:
        """Return the replacements by file."""
        found: dict[str, list[Piece]] = {}
        for change in self.changes:
            for piece in change.pieces:
                found.setdefault(piece.path, []).append(piece)
        return found

    @property
    def removes(self) -> list[str]:
        """Return the files that are taken away."""
        return sorted(path for path, after in self.results.items() if after == GONE)

    @property
    def creates(self) -> dict[str, str]:
        """Return the text of every new file."""
        return {new.path: new.text for change in self.changes for new in change.creates}
