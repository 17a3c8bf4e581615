"""Edits: spans of a file's text and what stands there afterwards. All else stays as it is, to the byte."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tritium.migration.text.source import Span


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file; an empty span inserts."""

    path: Path
    span: Span
    new: str


@dataclass(frozen=True, slots=True)
class Fix:
    """What settles a finding, in one or several files.

    A `safe` fix keeps what the deployment does. Any other has to be asked for, or looked at before it is applied.
    """

    edits: tuple[Edit, ...]
    safe: bool = True


class Overlap(Exception):
    """Two edits want the same characters; `one` and `other` are they."""

    def __init__(self, one: Edit, other: Edit) -> None:
        super().__init__(f"{one.path}: edits at {one.span.start} and {other.span.start} overlap")
        self.one = one
        self.other = other


def rewrite(text: str, edits: Iterable[Edit]) -> str:
    """Return a text with the edits of its file made; the same edit twice counts once.

    Raises:
        Overlap: two different edits meet.
    """
    pieces, at = [], 0
    before: Edit | None = None
    for edit in sorted(set(edits), key=lambda edit: (edit.span, edit.new)):
        if before is not None and edit.span.start < before.span.end:
            raise Overlap(before, edit)
        pieces += [text[at : edit.span.start], edit.new]
        at, before = edit.span.end, edit
    return "".join((*pieces, text[at:]))
