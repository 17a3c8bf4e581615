"""The text of a completion as a grammar reads it: in order, waiting for more wherever more is needed.

A grammar is a generator. It reads by `yield from text.upto(...)` and its like, each of which suspends it until the
text that decides the question has come, so that a grammar says nothing of how the text is cut.
"""

import functools
import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")

Wait = Generator[None, None, T]
"""A part of a grammar that returns T once enough of the text has come."""


class MalformedError(Exception):
    """The text is not what the grammar reads here, or ended before it was."""


class Markers:
    """Strings to watch for. None of them may begin another."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.longest = max(map(len, texts), default=0)
        self._whole = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        self._begun = re.compile(f"(?:{'|'.join(map(_prefixes, texts)) or '(?!)'})\\Z")

    def find(self, text: str, at: int) -> re.Match[str] | None:
        """Return the first of them."""
        return self._whole.search(text, at)

    def begun(self, text: str, at: int) -> int:
        """Return where an end of the text starts that could become one of them; the length where none does."""
        match = self._begun.search(text, at)
        return match.start() if match is not None else len(text)


@functools.cache
def markers(*texts: str) -> Markers:
    """Return the markers, compiled once."""
    return Markers(texts)


def _prefixes(text: str) -> str:
    """Return a pattern of all that `text` begins with, but for the whole of it."""
    pattern = ""
    for character in reversed(text[:-1]):
        pattern = re.escape(character) + (f"(?:{pattern})?" if pattern else "")
    return pattern or "(?!)"


class Text:
    """What has come of a text, and how far it is read; what is read after `mark` can be given back as it was."""

    __slots__ = ("_from", "_read", "_since", "_text", "ended")

    def __init__(self) -> None:
        self._text = ""
        self._read = 0
        self._since: list[str] | None = None
        """What was read after the marked place, but for what is still in `_text` from `_from` on."""
        self._from = 0
        self.ended = False
        """Whether nothing more will come."""

    def add(self, chunk: str) -> None:
        """Take more text."""
        if self._since is not None:
            self._since.append(self._text[self._from : self._read])
            self._from = 0
        self._text = self._text[self._read :] + chunk
        self._read = 0

    @property
    def waiting(self) -> int:
        """Return how many characters have come that are not read."""
        return len(self._text) - self._read

    @property
    def idle(self) -> bool:
        """Tell whether all that has come is read, and no place is marked."""
        return self._since is None and self._read == len(self._text)

    def mark(self) -> None:
        """Remember this place."""
        self._since, self._from = [], self._read

    def release(self) -> str:
        """Forget the marked place, and return what was read since."""
        assert self._since is not None
        since = "".join(self._since) + self._text[self._from : self._read]
        self._since = None
        return since

    def rewind(self) -> None:
        """Forget the marked place and go back to it."""
        since = self.release()
        self._text, self._read = since + self._text[self._read :], 0

    def more(self, needed: str = "") -> Wait[None]:
        """Wait for more text; where the character `needed` is given, until it is in what comes.

        Raises:
            MalformedError: there is no more.
        """
        while True:
            if self.ended:
                raise MalformedError
            had = self.waiting
            yield
            if self._text.find(needed, self._read + had) >= 0:
                return

    def peek(self) -> Wait[str]:
        """Return the next character without reading it."""
        while self._read == len(self._text):
            yield from self.more()
        return self._text[self._read]

    def skip(self, characters: int = 1) -> None:
        """Read so many characters that have come."""
        self._read += characters

    def space(self) -> Wait[bool]:
        """Read white space; return False where the text ends with it."""
        while True:
            while self._read < len(self._text):
                if not self._text[self._read].isspace():
                    return True
                self._read += 1
            if self.ended:
                return False
            yield

    def accept(self, *literals: str) -> Wait[str]:
        """Read the one of `literals` that comes next; return "" where none does."""
        while True:
            for literal in literals:
                if self._text.startswith(literal, self._read):
                    self._read += len(literal)
                    return literal
            unread = self._text[self._read :]
            if self.ended or not any(literal.startswith(unread) for literal in literals):
                return ""
            yield

    def expect(self, literal: str) -> Wait[None]:
        """Read `literal`.

        Raises:
            MalformedError: something else comes.
        """
        if not (yield from self.accept(literal)):
            raise MalformedError

    def match(self, pattern: re.Pattern[str]) -> str:
        """Read what of the text that has come matches the pattern here; "" where nothing does."""
        match = pattern.match(self._text, self._read)
        if match is None:
            return ""
        self._read = match.end()
        return match.group()

    def upto(self, *ends: str) -> Wait[tuple[str, str]]:
        """Read up to the first of `ends` and past it; return what came before it, and it.

        Raises:
            MalformedError: none comes.
        """
        watched = markers(*ends)
        searched = 0
        while True:
            found = watched.find(self._text, self._read + searched)
            if found is not None:
                before, self._read = self._text[self._read : found.start()], found.end()
                return before, found.group()
            if self.ended:
                self._read = len(self._text)
            searched = max(self.waiting - watched.longest, 0)
            yield from self.more()

    def passing(self, watched: Markers, sink: Callable[[str], None]) -> Wait[str]:
        """Hand text on to `sink` as it comes, up to the first marker and past it; return that, or "" at the end."""
        while True:
            found = watched.find(self._text, self._read)
            if found is not None:
                before, self._read = self._text[self._read : found.start()], found.end()
                if before:
                    sink(before)
                return found.group()
            safe = len(self._text) if self.ended else watched.begun(self._text, self._read)
            if safe > self._read:
                before, self._read = self._text[self._read : safe], safe
                sink(before)
            if self.ended:
                return ""
            yield

    def back(self, characters: int) -> None:
        """Unread so many characters that were read last."""
        self._read -= characters
