"""From the tree of a configuration file to its protobuf message, with the place of every field remembered.

The rules are those of protobuf's text format parser (which Triton uses); the words are ours, and all problems of
a file are found, not the first alone.
"""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tritium.compat.config.finding import Finding, Path
from tritium.compat.config.problem import Problem, problem_of
from tritium.compat.config.scalars import BadScalar, read_scalar
from tritium.compat.config.syntax import Block, Entry, Listing, Scalar, Value, template_hint
from tritium.compat.config.tokens import Kind, Source, Token


@dataclass(slots=True)
class Places:
    """The token of every field of a file by its path."""

    source: Source
    tokens: dict[Path, Token] = field(default_factory=dict)

    def problem(self, finding: Finding) -> Problem:
        """Put a finding at its field, at the nearest field around it, or at the file as a whole."""
        path = finding.where
        problem = problem_of(self.source.path, finding.message, finding.hint, finding.stage)
        for end in range(len(path), 0, -1):
            if token := self.tokens.get(path[:end]):
                problem = self.source.problem(token, finding.message, finding.hint, finding.stage)
                break
        return replace(problem, status=finding.status)


@dataclass(slots=True)
class Binder:
    """Fills messages from blocks; what does not fit goes to `problems`."""

    places: Places
    problems: list[Problem] = field(default_factory=list)

    def fill(self, message: Any, entries: Sequence[Entry], path: Path = (), *, closed: bool = True) -> None:
        """Set the fields of `message`; `closed` False says that some may be meant for the message around it."""
        seen: dict[str, Token] = {}
        for entry in entries:
            known = message.DESCRIPTOR.fields_by_name.get(entry.name.text)
            if known is None:
                if closed:
                    self._unknown(message.DESCRIPTOR, entry.name)
            elif entry.value is not None and self._allowed(known, entry, seen):
                self._field(message, known, entry, path)

    def _report(self, at: Token, message: str, hint: str = "") -> None:
        self.problems.append(self.places.source.problem(at, message, hint))

    def _unknown(self, descriptor: Any, name: Token) -> None:
        fields = list(descriptor.fields_by_name)
        near = difflib.get_close_matches(name.text.lower(), fields, n=1, cutoff=0.7)
        if near:
            hint = f"did you mean {near[0]}?"
        elif homes := _homes(descriptor, name.text):
            hint = f"{name.text} belongs in {' or '.join(homes)}"
        else:
            hint = f"{descriptor.name} has no such field; it has {', '.join(fields)}" if len(fields) < 8 else ""
        self._report(name, f'unknown field "{name.text}"', hint)

    def _allowed(self, known: Any, entry: Entry, seen: dict[str, Token]) -> bool:
        """Refuse a second value of a single field, and a second member of a oneof."""
        if known.is_repeated:
            return True
        group = known.containing_oneof
        key = group.name if group else known.name
        first = seen.setdefault(key, entry.name)
        if first is entry.name:
            return True
        line = self.places.source.line_of(first.start)
        if first.text == known.name:
            self._report(entry.name, f"{known.name} is given twice", f"line {line} has the first; delete one")
        else:
            self._report(
                entry.name, f"{known.name} cannot stand beside {first.text}", f"line {line} has {first.text}; keep one"
            )
        return False

    def _field(self, message: Any, known: Any, entry: Entry, path: Path) -> None:
        value = entry.value
        assert value is not None
        self._colon(known, entry)
        here = (*path, known.name)
        self.places.tokens.setdefault(here, entry.name)
        if not known.is_repeated:
            if isinstance(value, Listing):
                self._report(value.at, f"{known.name} takes one value, not a list", "delete the brackets")
            else:
                self._single(message, known, value, here)
            return
        for item in value.items if isinstance(value, Listing) else (value,):
            if known.message_type is not None and known.message_type.GetOptions().map_entry:
                self._pair(getattr(message, known.name), known, item, here)
            else:
                self._append(getattr(message, known.name), known, item, here)

    def _colon(self, known: Any, entry: Entry) -> None:
        if known.message_type is None and not entry.colon:
            self._report(entry.name, f'missing ":" after {known.name}', f"write {known.name}: VALUE")

    def _single(self, message: Any, known: Any, value: Value, here: Path) -> None:
        if known.message_type is None:
            scalar = self._scalar(known, value)
            if scalar is not None:
                setattr(message, known.name, scalar)
                self.places.tokens[here] = value.at
        elif block := self._block(known, value):
            child = getattr(message, known.name)
            child.SetInParent()
            self.fill(child, block.entries, here, closed=block.closed)

    def _append(self, items: Any, known: Any, value: Value, path: Path) -> None:
        here = (*path, len(items))
        if known.message_type is None:
            scalar = self._scalar(known, value)
            if scalar is not None:
                items.append(scalar)
                self.places.tokens[here] = value.at
        elif block := self._block(known, value):
            self.places.tokens[here] = block.at
            self.fill(items.add(), block.entries, here, closed=block.closed)

    def _pair(self, pairs: Any, known: Any, value: Value, path: Path) -> None:
        """Add one entry of a map, written as a message of key and value."""
        block = self._block(known, value)
        if block is None:
            return
        parts = known.message_type.fields_by_name
        given: dict[str, Value] = {}
        seen: dict[str, Token] = {}
        for entry in block.entries:
            part = parts.get(entry.name.text)
            if part is None:
                self._unknown(known.message_type, entry.name)
            elif entry.value is not None and self._allowed(part, entry, seen):
                self._colon(part, entry)
                given[part.name] = entry.value
        key = self._scalar(parts["key"], given["key"]) if "key" in given else parts["key"].default_value
        here = (*path, key)
        self.places.tokens[here] = given["key"].at if "key" in given else block.at
        if key is None:
            return
        if parts["value"].message_type is None:
            scalar = self._scalar(parts["value"], given["value"]) if "value" in given else None
            pairs[key] = parts["value"].default_value if scalar is None else scalar
        else:
            pairs[key].Clear()
            inner = self._block(parts["value"], given["value"]) if "value" in given else None
            if inner is not None:
                self.fill(pairs[key], inner.entries, here, closed=inner.closed)

    def _block(self, known: Any, value: Value) -> Block | None:
        if isinstance(value, Block):
            return value
        if isinstance(value, Scalar) and value.tokens[0].kind is Kind.TEMPLATE:
            self._report(value.at, f"unfilled template value {value.text}", template_hint(value.text))
        elif isinstance(value, Scalar):
            inner = next(iter(known.message_type.fields_by_name))
            self._report(
                value.at, f"{known.name} takes a block, not {value.text}", f"write {known.name} {{ {inner} ... }}"
            )
        else:
            self._report(value.at, f"{known.name} is a list within a list", "delete the inner brackets")
        return None

    def _scalar(self, known: Any, value: Value) -> Any:
        if not isinstance(value, Scalar):
            self._report(value.at, f"{known.name} takes a plain value, not a block", f"write {known.name}: VALUE")
            return None
        try:
            return read_scalar(known, value)
        except BadScalar as bad:
            self._report(value.at, bad.message, bad.hint)
            return None


def _homes(descriptor: Any, name: str) -> list[str]:
    """Return the fields, of the whole configuration, whose messages do have a field of that name."""
    root = descriptor.file.message_types_by_name["ModelConfig"]
    found = [
        path for path, message in _messages(root, ()) if name in message.fields_by_name and message is not descriptor
    ]
    shortest = sorted(found, key=len)[:2]
    return [".".join(path) if path else "the top level" for path in shortest]


def _messages(descriptor: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, descriptor
    for child in descriptor.fields:
        if child.message_type is not None and len(path) < 4:
            yield from _messages(child.message_type, (*path, child.name))
