"""Templated YAML made readable: Go's and Jinja's actions are covered with as many harmless characters.

    image: {{ .Values.image }}     ->  image: xxxxxxxxxxxxxxxxxxx
    {{- if .Values.gpu }}          ->  (blanks)

Every character keeps its offset, so what a YAML parser finds in the covered text stands at the same place in the file.
"""

import re

_ACTION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
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
    pieces, at = [], 0
    for match in _ACTION.finditer(text):
        pieces += [text[at : match.start()], _covered(text, match)]
        at = match.end()
    return "".join((*pieces, text[at:]))


def _covered(text: str, match: re.Match[str]) -> str:
    """Return what stands for an action: blanks where it has its line for itself, a word where it is a value."""
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    rest = text[begin : match.start()] + text[match.end() : len(text) if end < 0 else end]
    alone = not _ACTION.sub("", rest).strip() or "\n" in match.group() or match.group().startswith(("{%", "{#"))
    return re.sub(r"[^\r\n]", " " if alone else "x", match.group())
