"""A file as it was read: its text to the last character, and places in it by offset, line and column.

The text is decoded so that encoding it again gives the same bytes: line ends, byte order mark and bytes that are no
UTF-8 included. Everything that is found keeps a span of it, and edits are made of spans.
"""

import bisect
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A piece of a text: from the offset `start` up to `end`, in characters."""

    start: int
    end: int

    def of(self, text: str) -> str:
        """Return the piece."""
        return text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Source:
    """One file's text. `path` is relative to the folder that is audited."""

    path: Path
    text: str
    starts: tuple[int, ...] = field(repr=False, compare=False)
    """Where each line begins."""

    def place(self, offset: int) -> tuple[int, int]:
        """Return the line and column of an offset, both from 1."""
        line = bisect.bisect_right(self.starts, offset)
        return line, offset - self.starts[line - 1] + 1

    def offset(self, line: int, column: int) -> int:
        """Return the offset of a line and column, both from 1."""
        return self.starts[line - 1] + column - 1

    def line(self, number: int) -> str:
        """Return a line, from 1, without its line end."""
        end = self.starts[number] if number < len(self.starts) else len(self.text)
        return self.text[self.starts[number - 1] : end].rstrip("\r\n")

    def word(self, line: int, column: int, width: int) -> Span:
        """Return the span of what stands on a line, `width` characters wide."""
        start = self.offset(line, column)
        return Span(start, start + width)

    @property
    def lines(self) -> list[str]:
        """Return the lines without their ends."""
        return [self.line(number) for number in range(1, len(self.starts) + 1)]


def source_of(path: Path, text: str) -> Source:
    """Make a source of a text."""
    starts, at = [0], text.find("\n")
    while at >= 0:
        starts.append(at + 1)
        at = text.find("\n", at + 1)
    return Source(path, text, tuple(starts))


def decode(raw: bytes) -> str:
    """Return a file's text; `encode` gives the same bytes again."""
    return raw.decode("utf-8", errors="surrogateescape")


def encode(text: str) -> bytes:
    """Return the bytes of a text that `decode` returned, or that was made of it."""
    return text.encode("utf-8", errors="surrogateescape")
