"""Templated YAML made readable: Go's and Jinja's actions are covered with as many harmless characters.

    image: {{ .Values.image }}     ->  image: xxxxxxxxxxxxxxxxxxx
    {{- if .Values.gpu }}          ->  (blanks)

Every character keeps its offset, so what a YAML parser finds in the covered text stands at the same place in the file.
"""

import re
from collections.abc import Iterable, Iterator

from tritium.migration.text.source import Span

_OPENING = re.compile(r"\{[{%#]")
_CLOSING = {"{{": "}}", "{%": "%}", "{#": "#}"}
_BEGINNING = re.compile(r"(?<=[\s\[,])[@`%](?=\S)")
"""A character that no plain YAML scalar may begin with, and placeholders do: @NAME@, %NAME%."""


def is_templated(text: str) -> bool:
    """Tell whether a text has actions of a template."""
    return "{{" in text or "{%" in text


def cover(text: str) -> str:
    """Return a text of the same length, without what no YAML parser takes."""
    text = _BEGINNING.sub("x", text.replace("\t", " ").replace("\ufeff", " "))
    if not is_templated(text):
        return text
    spans = list(_actions(text))
    bare = _with(text, spans, [True] * len(spans))
    return _with(text, spans, _say_nothing(bare, text, spans))


def _actions(text: str) -> Iterator[Span]:
    """Yield where actions stand; an ending that is nowhere is looked for once, however many beginnings there are."""
    at, endless = 0, set[str]()
    while opening := _OPENING.search(text, at):
        begin, kind = opening.start(), opening.group()
        end = -1 if kind in endless else text.find(_CLOSING[kind], begin + 2)
        if end < 0:
            endless.add(kind)
            at = begin + 1
        else:
            yield Span(begin, end + 2)
            at = end + 2


def _say_nothing(bare: str, text: str, spans: list[Span]) -> Iterator[bool]:
    """Tell of each action whether it is no value: a condition, a comment, of several lines, or alone on its own."""
    line_end, alone = -1, False
    for span in spans:
        if span.start > line_end:
            line_end = bare.find("\n", span.start) % (len(bare) + 1)
            alone = not bare[bare.rfind("\n", 0, span.start) + 1 : line_end].strip()
        action = span.of(text)
        yield alone or "\n" in action or action.startswith(("{%", "{#"))


def _with(text: str, spans: list[Span], blank: Iterable[bool]) -> str:
    """Return a text with blanks, or a word as long, in place of each action."""
    pieces, at = [], 0
    for span, nothing in zip(spans, blank, strict=True):
        pieces += [text[at : span.start], re.sub(r"[^\r\n]", " " if nothing else "x", span.of(text))]
        at = span.end
    return "".join((*pieces, text[at:]))
