"""Tokens of protobuf's text format, each with its place; any text at all has tokens.

protobuf's own parser stops at the first error and tells little of where it was; `syntax` and `bind` go on, and
for that they need every token's place. What no rule knows becomes an UNKNOWN token, never an exception.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tritium.compat.config.problem import Problem, Stage


class Kind(StrEnum):
    """What a token is. TEMPLATE is a placeholder such as ${name} or {{ name }} that nobody filled in."""

    NAME = "name"
    NUMBER = "number"
    STRING = "string"
    SYMBOL = "symbol"
    TEMPLATE = "template"
    UNTERMINATED = "unterminated string"
    UNKNOWN = "unknown"
    END = "end of file"


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the source; `start` is its offset in characters."""

    kind: Kind
    text: str
    start: int

    @property
    def end(self) -> int:
        """Return the offset behind the last character."""
        return self.start + len(self.text)

    def is_symbol(self, *symbols: str) -> bool:
        """Tell whether this is one of the given symbols."""
        return self.kind is Kind.SYMBOL and self.text in symbols


CLOSERS = {"{": "}", "<": ">", "[": "]"}
"""What closes each bracket."""

_GRAMMAR = re.compile(
    r"""
      (?P<skip>      (?: \s+ | \#[^\n]* )+ )
    | (?P<template>  \$\{ [^{}\n]* \} | \{\{ [^{}\n]* \}\} | @@ \w+ @@ )
    | (?P<number>    0[xX][0-9a-fA-F]+(?!\w) | (?: \d+\.?\d* | \.\d+ )(?: [eE][+-]?\d+ )?[fF]?(?![\w.]) )
    | (?P<name>      [A-Za-z_]\w* )
    | (?P<string>    "(?: [^"\\\n] | \\. )*" | '(?: [^'\\\n] | \\. )*' )
    | (?P<unterminated> ["'][^\n]* )
    | (?P<symbol>    [{}\[\]<>:,;\-] )
    | (?P<unknown>   [\d.][\w.]* | . )
    """,
    re.VERBOSE | re.ASCII,
)


class Source:
    """The text of one configuration file, and the way from a place in it to a Problem."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def tokens(self) -> Iterator[Token]:
        """Yield every token, and END last."""
        for match in _GRAMMAR.finditer(self.text):
            if match.lastgroup != "skip":
                yield Token(_KINDS[match.lastgroup or "unknown"], match.group(), match.start())
        yield Token(Kind.END, "", len(self.text))

    def line_of(self, offset: int) -> int:
        """Return the line of an offset, counting from 1."""
        return bisect_right(self._lines, offset)

    def commented(self, opened: Token) -> bool:
        """Tell whether a comment on the line of an open bracket holds a bracket that would close it."""
        end = self.text.find("\n", opened.start)
        line = self.text[opened.end : end if end >= 0 else len(self.text)]
        return CLOSERS[opened.text] in line.partition("#")[2]

    def problem(self, at: Token, message: str, hint: str = "", stage: Stage = Stage.POLL) -> Problem:
        """Make a problem at a token."""
        line = self.line_of(at.start)
        begin = self._lines[line - 1]
        end = self._lines[line] if line < len(self._lines) else len(self.text)
        return Problem(
            self.path,
            line,
            at.start - begin + 1,
            len(at.text.split("\n", 1)[0]) or 1,
            message,
            hint,
            self.text[begin:end].rstrip("\r\n"),
            stage,
        )


_KINDS = {
    "template": Kind.TEMPLATE,
    "number": Kind.NUMBER,
    "name": Kind.NAME,
    "string": Kind.STRING,
    "unterminated": Kind.UNTERMINATED,
    "symbol": Kind.SYMBOL,
    "unknown": Kind.UNKNOWN,
}
