"""Command lines that start the server, found in any file by reading its lines.

A command that goes over several lines (continuations, lists) is put together again. Nothing here parses the file's
own language: many launch files are templates that no parser takes, and the words are the same everywhere.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tritium.migration.launches.format import Format
from tritium.migration.text.words import PLACEHOLDER, Word, split, whole_string

_SERVER = re.compile(
    r"(?:(?<![\w/.:@-])[\w./${}-]+/bin/|(?<![\w/.:=@-])|(?<=\bcommand=)|(?<=\bExec=))tritonserver(?![\w:.\-/])"
    r"|(?:[\w./${}-]*/)?launch_triton_server\.py"
    r"|(?:[\w./${}-]*/)?openai(?:_frontend)?/main\.py"
)
_NO_COMMAND = re.compile(
    r"\s*(FROM\b|LABEL\b|ENV\b|ARG\b|WORKDIR\b|COPY\b|image\s*[:=]|import\b|echo\b|-?\s*name\s*[:=]|\w*name\s*[:=]"
    r"|(?:sudo\s+)?(?:pkill|killall|kill|pgrep|which|alias|cp|mv|ln|rm|ls|chmod|chown|find|stat|ldd|objdump|test)\b"
    r"|(?:el)?if\s+(?:!\s+)?(?:\[|pgrep|command\b|which\b|test\b)|\[|log\w*\b)",
    re.IGNORECASE,
)
_ARGUMENTS = re.compile(r"""\s*["']?args["']?\s*[:=]\s*(?:\[|$)""")
_CONDITIONAL = re.compile(r"\s*\{\{-?\s*(?:if|range|with)\b[^}]*\}\}.*\s(?:--[a-z]|\{\{)")
_BARE = re.compile(
    r"""(?:^\s*-\s*["']?|\[\s*["']?|^\s*(?:exec\s+|nohup\s+)?|^\s*(?:export\s+)?\w+=["']?"""
    r"""|(?:command|args|entrypoint|cmd)\b[^=\w]*["'\[]*\s*)$""",
    re.IGNORECASE,
)
_WORDY = {Format.PYTHON, Format.JAVASCRIPT, Format.NOTEBOOK, Format.TEXT, Format.DOCUMENT, Format.JSON}
"""Formats in which the server's name alone is a word like any other."""


@dataclass(frozen=True, slots=True)
class Command:
    """A tritonserver command line: where it begins, and the words after the server's name."""

    program: Word
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """Return the command on one line, without the marks of the list or string it stood in."""
        return " ".join(word.text for word in (self.program, *self.words))

    @property
    def launches_ranks(self) -> bool:
        """Tell whether this is TensorRT-LLM's launcher, which has flags of its own."""
        return "launch_triton_server" in self.program.text

    @property
    def is_openai(self) -> bool:
        """Tell whether this is Triton's OpenAI frontend, which has flags of its own."""
        return self.program.text.endswith("main.py")

    def values(self, *flags: str) -> list[Word]:
        """Return the values of flags, each as the word that holds it (its text is the value alone)."""
        found = []
        for at, word in enumerate(self.words):
            name, equals, value = word.text.partition("=")
            if name.lstrip("-").replace("_", "-") not in flags or not name.startswith("-"):
                continue
            if equals:
                found.append(Word(value, word.line, word.column + len(name) + 1, len(value)))
            elif at + 1 < len(self.words):
                found.append(self.words[at + 1])
        return found

    def value(self, *flags: str) -> str:
        """Return the last value of a flag; "" where it is not given."""
        return next((word.text for word in reversed(self.values(*flags))), "")


def commands(lines: Sequence[str], form: Format) -> Iterator[Command]:
    """Yield the command lines in a file's lines, from which comments are gone."""
    number = 0
    while number < len(lines):
        code = lines[number]
        match = _SERVER.search(code)
        if match is None or _NO_COMMAND.match(code):
            number += 1
            continue
        program = Word(match.group(), number + 1, match.start() + 1, len(match.group()))
        if inside := whole_string(code, match.start()):
            words = split(code[: match.start() + len(inside)], number + 1, match.end()).words
        else:
            rest = match.end() + (code[match.end() : match.end() + 1] in ("'", '"'))
            read = split(code, number + 1, rest)
            words = read.words
            while not read.ended and (following := _following(lines, number, form, closed=read.closed)):
                number = following
                read = split(lines[number], number + 1)
                words += read.words
        # Words without any flag are a sentence about the server, not a command.
        flagged = any(w.text.startswith("-") or PLACEHOLDER.search(w.text) for w in words)
        if flagged or (not words and form not in _WORDY and _BARE.search(code[: match.start()])):
            yield Command(program, tuple(words))
        number += 1


def _following(lines: Sequence[str], number: int, form: Format, *, closed: bool) -> int:
    """Return the line on which the command goes on, past comments and template conditions; 0 when it is at its end."""
    after = number + 1
    while after < len(lines) and _is_passed_over(lines[after]) and after - number < 20:
        after += 1
    if after >= len(lines):
        return 0
    here, there = lines[number].rstrip(), lines[after]
    if closed:
        return after if _ARGUMENTS.match(there) else 0
    item = re.compile(r"(\s*)-\s")
    first, second = item.match(here), item.match(there)
    goes_on = (
        here.endswith("\\")
        or re.match(r"""\s*(-\s+|,)?\s*["']?--[a-z]""", there) is not None
        or _ARGUMENTS.match(there) is not None
        or _CONDITIONAL.match(there) is not None
        or (
            here.endswith(",")
            and (form in (Format.PYTHON, Format.JAVASCRIPT) or re.match(r"""\s*f?["']""", there) is not None)
        )
        or (first is not None and second is not None and first[1] == second[1])
    )
    return after if goes_on else 0


def _is_passed_over(line: str) -> bool:
    code = line.strip()
    return code in ("", "[") or re.fullmatch(r"\{\{-?\s*(if|else|end|range|with)\b[^}]*\}\}", code) is not None
