"""Lines put into a mapping of YAML where they belong, with its indentation and line ends; nothing else is touched."""

from pathlib import Path

from tritium.migration.planning.plan import Piece
from tritium.migration.text.source import Source, Span
from tritium.migration.text.tree import Mapping


def inserted(source: Source, mapping: Mapping, *lines: str) -> list[Piece]:
    """Put lines before the first key of a mapping that begins a line; none where it is not in block style."""
    for key, _ in mapping.entries:
        at = key.span.start - (source.text[key.span.start - 1 : key.span.start] in ("'", '"'))
        begin = source.text.rfind("\n", 0, at) + 1
        indent = source.text[begin:at]
        if source.text[mapping.span.start] != "{" and not indent.strip():
            newline = "\r\n" if "\r\n" in source.text else "\n"
            text = "".join(f"{line}{newline}{indent}" for line in lines)
            return [replaced(source.path, Span(at, at), text)]
    return []


def replaced(path: Path, span: Span, new: str) -> Piece:
    """Make a piece of a span."""
    return Piece(str(path), span.start, span.end, new)
