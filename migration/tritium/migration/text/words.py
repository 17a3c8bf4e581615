"""The words of a command line as it stands in a shell script, a JSON list, a YAML list, or one string of either.

They are read from text, not by a parser of those languages: many launch files are templates that no parser takes.
"""

import re
from dataclasses import dataclass

from tritium.migration.text.source import Source, Span

PLACEHOLDER = re.compile(r"\$\{?\w+\}?|\$\([^)]{0,255}\)|\{\{.{0,255}?\}\}|<[A-Za-z_.-]+>|@\w+@|%\w+%")
"""A value that is filled in at deployment time."""

_ENDS = {"|", "||", "&", "&&", ";", ":", ">", ">>", "<", "2>&1", "&>"}
_REDIRECTION = re.compile(r"(?:\d*>|&>)")
_LONGEST = 10_000
"""How long a substitution may be; beyond that its end is not looked for, as there may be very many beginnings."""
_KEY = re.compile(r"""\s*(?:-\s+)?["']?[\w-]+["']?(?::(?:\s+|$)|\s*=\s+)(?:[|>][+-]?\s*$)?""")
_ARGUMENTS = re.compile(r"""\]\s*,?\s*["']?args["']?\s*[:=]\s*\[""")
_BRACKETS = re.compile(r"[\])}({]+[,;]?|![A-Z]\w*|\{\{-?\s*(?:if|else|end|range|with)\b[^}]*\}\}")
"""What is no word of a command: closing brackets, YAML's tags, and a template's conditions around some of its words."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word without its quotation marks, and where it stands: line and column from 1, characters in the file."""

    text: str
    line: int
    column: int
    width: int = 0

    def span(self, source: Source) -> Span:
        """Return where it stands in its file, within its quotation marks."""
        return source.word(self.line, self.column, self.width or len(self.text))


def code_of(line: str) -> str:
    """Drop a comment: a # at the start or after a blank begins one in every format read here."""
    return re.sub(r"(^|\s)#.*$", r"\1", line)


def whole_string(code: str, at: int) -> str:
    """Return the rest of the quoted string in which a command begins at `at`; "" where no string holds more of it."""
    before = code[:at]
    for mark in ("'", '"'):
        if before.count(mark) % 2 and mark in code[at:]:
            inside = code[at : code.index(mark, at)]
            return inside if " " in inside.strip() else ""
    return ""


@dataclass(frozen=True, slots=True)
class Line:
    """The words of one line of a command. `ended`: by `|`, `;`, `&&`; `closed`: the list it stands in is at its end."""

    words: list[Word]
    ended: bool = False
    closed: bool = False


def split(code: str, line: int, begin: int = 0) -> Line:
    """Split a line into words from `begin` on."""
    words: list[Word] = []
    if begin == 0 and (key := _KEY.match(code)):
        begin = key.end()
    at = begin
    while at < len(code):
        if code[at] in " \t,[":
            at += 1
            continue
        if code[at] == "]":
            if (arguments := _ARGUMENTS.match(code, at)) is None:
                return Line(words, closed=True)
            at = arguments.end()
            continue
        if code[at] in "fFrRbB" and code[at + 1 : at + 2] in ("'", '"') and code[at - 1] in " \t,([":
            at += 1  # the prefix of a string of Python's
        if code[at] == "\\" and not code[at + 1 :].strip():
            break
        text, end = _word(code, at)
        if text in _ENDS or _REDIRECTION.match(text):
            return Line(words, ended=True)
        if text and not _BRACKETS.fullmatch(text) and not (text == "-" and not code[:at].strip()):
            quoted = code[at] in "'\"" and code[end - 1 : end] == code[at] and code.find(code[at], at + 1) == end - 1
            width = end - at - 2 if quoted else end - at
            words.append(Word(text.removesuffix(";"), line, at + 1 + quoted, width))
            if text.endswith(";"):
                return Line(words, ended=True)
        at = max(end, at + 1)
    return Line(words)


def _closing(code: str, at: int) -> int:
    """Return where the parenthesis that opens at `at` has been closed; the end of what is looked at where it is not."""
    depth = 0
    for place in range(at, min(len(code), at + _LONGEST)):
        depth += (code[place] == "(") - (code[place] == ")")
        if not depth:
            return place + 1
    return min(len(code), at + _LONGEST)


def _word(code: str, at: int) -> tuple[str, int]:
    """Read one word; a comma ends it after a closing quotation mark, or before a blank."""
    text = ""
    while at < len(code):
        char = code[at]
        if char in "'\"":
            close = code.find(char, at + 1)
            close = len(code) if close < 0 else close
            text, at = text + code[at + 1 : close], close + 1
            if code[at : at + 1] == ",":
                break
        elif code.startswith("{{", at) and (end := code.find("}}", at, at + _LONGEST)) >= 0:
            close = end + 2
            text, at = text + code[at:close], close
        elif code.startswith("$(", at):
            close = _closing(code, at + 1)
            text, at = text + code[at:close], close
        elif char in " \t]" or (char == "," and not code[at + 1 : at + 2].strip()):
            break
        else:
            text, at = text + char, at + 1
    return text, at
