"""Taking a word out of a list, a command line or a command over several lines, and leaving the rest well-formed."""

import re

from tritium.migration.text.edit import Edit
from tritium.migration.text.source import Source, Span

_AROUND = re.compile(r"""^[\s"',\\-]*$""")


def without(source: Source, span: Span) -> Edit:
    """Return the edit that takes out the word at `span`, with its quotation marks, comma, dash or continuation."""
    text = source.text
    start, end = span.start, span.end
    if text[start - 1 : start] in ("'", '"') and text[end : end + 1] == text[start - 1]:
        start, end = start - 1, end + 1
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", end)
    line_end = len(text) if line_end < 0 else line_end + 1
    before, after = text[line_start:start], text[end:line_end]
    if _AROUND.match(before) and _AROUND.match(after):
        return _line(source, Span(line_start, line_end), before, after)
    if match := re.match(r"\s*,[ \t]*", after):
        return Edit(source.path, Span(start, end + match.end()), "")
    if match := re.search(r",?[ \t]*$", before):
        return Edit(source.path, Span(line_start + match.start(), end), "")
    return Edit(source.path, Span(start, end), "")


def _line(source: Source, span: Span, before: str, after: str) -> Edit:
    """Take out a whole line; where it was the last of its kind, the one before must not go on."""
    text = source.text
    goes_on = "\\" in after or "," in after or "-" in before
    previous = text[: span.start].rstrip()
    if not goes_on and previous.endswith(("\\", ",")):
        ending = re.search(r"\r?\n?$", text[span.start : span.end])
        return Edit(source.path, Span(len(previous[:-1].rstrip()), span.end), ending.group() if ending else "")
    return Edit(source.path, span, "")
