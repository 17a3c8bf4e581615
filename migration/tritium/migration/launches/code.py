"""What of a file is code: comments, prose and a notebook's outputs are blanked, every character keeping its offset."""

import re
from collections.abc import Iterable

from tritium.migration.launches.format import Format
from tritium.migration.text.source import Source
from tritium.migration.text.tree import Mapping, Scalar, Sequence, documents

_COMMENT = re.compile(r"(?:(?<=\s)|^)#[^\r\n]*", re.MULTILINE)
_SLASHES = re.compile(r"(?:(?<=\s)|^)//[^\r\n]*", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(```|~~~)[^\n]*\n(.*?)^[ \t]*\1", re.MULTILINE | re.DOTALL)
_VISIBLE = re.compile(r"[^\s]")


def code_of_file(form: Format, source: Source) -> str:
    """Return a file's text with blanks for what no program reads."""
    text = source.text
    if form is Format.DOCUMENT:
        return _COMMENT.sub(_blank, _only(text, ((m.start(2), m.end(2)) for m in _FENCE.finditer(text))))
    if form is Format.NOTEBOOK:
        return _COMMENT.sub(_blank, _notebook(source))
    text = _COMMENT.sub(_blank, text)
    return _SLASHES.sub(_blank, text) if form in (Format.HCL, Format.JAVASCRIPT) else text


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _only(text: str, pieces: Iterable[tuple[int, int]]) -> str:
    """Return a text of which only the pieces (start, end) are left; line ends stay."""
    kept, at = [], 0
    for start, end in pieces:
        kept += [_VISIBLE.sub(" ", text[at:start]), text[start:end]]
        at = end
    return "".join((*kept, _VISIBLE.sub(" ", text[at:])))


def _notebook(source: Source) -> str:
    """Return the lines of the code cells, each where it stands; the marks of JSON within them are blanks."""
    for tree in documents(source):
        cells = tree.get("cells") if isinstance(tree, Mapping) else None
        if isinstance(cells, Sequence):
            spans = [
                (line.span.start, line.span.end)
                for cell in cells.items
                if isinstance(cell, Mapping) and cell.text("cell_type") == "code"
                for line in _lines(cell)
            ]
            return _unescaped(_only(source.text, spans))
    return _VISIBLE.sub(" ", source.text)


def _lines(cell: Mapping) -> list[Scalar]:
    node = cell.get("source")
    if isinstance(node, Scalar):
        return [node]
    return [line for line in node.items if isinstance(line, Scalar)] if isinstance(node, Sequence) else []


def _unescaped(text: str) -> str:
    """Return a notebook's lines without JSON's escapes: the line end at a line's end, and backslashes before quotes."""
    text = re.sub(r"\\\\\\n(?=\s*$)", " \\\\  ", text, flags=re.MULTILINE)
    return re.sub(r"\\(?:n|t)", "  ", text).replace('\\"', ' "')
