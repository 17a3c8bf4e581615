"""YAML and JSON as a tree whose every node has its span in the file, templates included.

PyYAML's parser only gives marks here: no value is constructed, nothing is written back. A file is read document by
document, so that one that no parser takes loses nothing but itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]  # it ships no types

from tritium.migration.text.mask import cover
from tritium.migration.text.source import Source, Span

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SEPARATOR = re.compile(r"^---(?=\s|$)[^\r\n]*", re.MULTILINE)
_PROPERTIES = re.compile(r"(?:[!&][^\s,\[\]{}]*\s+)+")
"""Tags and anchors before a value: `!Sub`, `&image`."""
_BLOCK = re.compile(r"\|[+-]?[ \t]*(?:#[^\r\n]*)?\r?\n")
_DEEPEST = 100
_NESTING = ("[", "{", "- ", "? ", ":")
"""What every level of a document has one of."""
_REPEATED = 100_000
"""How many nodes aliases may add to a document: a few lines of them can stand for more than any memory holds."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value: `text` as the program sees it, `span` within its quotation marks."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple["Node", ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the file's order; a template may have a key twice."""

    entries: tuple[tuple[Scalar, "Node"], ...]
    span: Span

    def get(self, *keys: str) -> "Node | None":
        """Return what the keys lead to, one within the other."""
        node: Node | None = self
        for key in keys:
            if not isinstance(node, Mapping):
                return None
            node = next((value for name, value in node.entries if name.text == key), None)
        return node

    def text(self, *keys: str) -> str:
        """Return the text of the value that the keys lead to; "" where there is none."""
        node = self.get(*keys)
        return node.text if isinstance(node, Scalar) else ""

    def has(self, *keys: str) -> bool:
        """Tell whether all of the keys are here."""
        return set(keys) <= {name.text for name, _ in self.entries}


Node = Scalar | Sequence | Mapping


def documents(source: Source) -> Iterator[Node]:
    """Yield the tree of each document that can be read."""
    covered = cover(source.text)
    starts = [0, *(match.end() for match in _SEPARATOR.finditer(covered))]
    ends = [*(match.start() for match in _SEPARATOR.finditer(covered)), len(covered)]
    for start, end in zip(starts, ends, strict=True):
        try:
            node = _composed(covered[start:end])
            if node is not None:
                # A node takes a character at least, so that more of them than characters are repetitions.
                room = iter(range(end - start + _REPEATED))
                yield _node(node, source.text, start, 0, room)
        except (yaml.YAMLError, ValueError, RecursionError):
            continue


def embedded(node: Node, source: Source) -> Iterator[Node]:
    """Yield the trees of YAML that stands as text in a document (`values: |`): a chart's values, a ConfigMap's file."""
    for _, value in walk(node):
        if isinstance(value, Scalar) and (block := _BLOCK.match(source.text, value.span.start, value.span.end)):
            start, end = block.end(), value.span.end
            try:
                inner = _composed(cover(source.text[start:end]))
                if isinstance(inner, yaml.MappingNode):
                    yield _node(inner, source.text, start, 0, iter(range(end - start + _REPEATED)))
            except (yaml.YAMLError, ValueError, RecursionError):
                continue


def walk(node: Node, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield every node below one, itself first, with the keys that lead there; a list's places are "-"."""
    yield keys, node
    if isinstance(node, Mapping):
        for key, value in node.entries:
            yield from walk(value, (*keys, key.text))
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from walk(item, (*keys, "-"))


def _composed(text: str) -> Any:
    """Return the parser's node of a document, None for an empty one; raises ValueError and YAMLError."""
    if sum(map(text.count, _NESTING)) > _DEEPEST:
        # The compiled composer calls itself for each level, and ends the process where its stack does.
        depth = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError("nested too deeply")
    return yaml.compose(text, Loader=_LOADER)


def _node(node: Any, text: str, shift: int, depth: int, room: Iterator[int]) -> Node:
    """Convert a node and those below it, each of which takes a place of `room`."""
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if next(room, None) is None:
        raise ValueError("aliases that stand for too much")
    span = Span(node.start_mark.index + shift, node.end_mark.index + shift)
    if isinstance(node, yaml.MappingNode):
        entries = (
            (_node(k, text, shift, depth + 1, room), _node(v, text, shift, depth + 1, room)) for k, v in node.value
        )
        return Mapping(tuple((k, v) for k, v in entries if isinstance(k, Scalar)), span)
    if isinstance(node, yaml.SequenceNode):
        return Sequence(tuple(_node(item, text, shift, depth + 1, room) for item in node.value), span)
    if properties := _PROPERTIES.match(text, span.start, span.end):
        span = Span(properties.end(), span.end)
    if node.style in ("'", '"'):
        span = Span(span.start + 1, span.end - 1)
    raw = span.of(text)
    # A value of one line is as it stands there, templates included; escapes and folds are the parser's to resolve.
    plain = "\n" not in raw and "\\" not in raw and "''" not in raw
    return Scalar(raw if plain else node.value, span)
