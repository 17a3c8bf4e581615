"""JSON as a model writes it, read while it comes: strings, values in fragments, and objects that are calls."""

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from tritium.llm.reading.pieces import Pieces
from tritium.llm.reading.text import MalformedError, Text, Wait

Emit = Callable[[str], None]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
# What of a string can be handed on: characters and whole escapes; both halves of a surrogate pair go together.
_WHOLE = re.compile(
    r'(?:[^"\\]++'
    r"|\\[^u]"
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4}"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\u[0-9a-fA-F]{4}|(?=[^\\]|\\[^u])))+",
    re.DOTALL,
)
_LONGEST_ESCAPE = len(r"\ud83d\ude00")
_PLAIN = re.compile(r'[^"{}\[\]]+')
_LITERAL = re.compile(r"[\w.+-]+")
# Line ends and tabs that a model left bare within a string, as JSON writes them.
_CONTROLS = {code: json.dumps(chr(code))[1:-1] for code in range(0x20)}

_ARGUMENTS = ("arguments", "parameters")


def read_string(text: Text) -> Wait[str]:
    """Read a string whole and return what it says."""
    if (yield from text.peek()) != '"':
        raise MalformedError
    while not (raw := text.match(_STRING)):
        yield from text.more('"')
    try:
        return str(json.loads(raw, strict=False))
    except ValueError:
        raise MalformedError from None


def read_value(text: Text, emit: Emit) -> Wait[None]:
    """Read an object or a list and hand its text on as it comes; no fragment ends within an escape."""
    depth = 0
    while True:
        character = yield from text.peek()
        if character == '"':
            yield from _pass_string(text, emit)
        elif plain := text.match(_PLAIN):
            emit(plain)
        else:
            depth += 1 if character in "{[" else -1
            text.skip()
            emit(character)
        if depth <= 0:
            return


def _pass_string(text: Text, emit: Emit) -> Wait[None]:
    text.skip()
    emit('"')
    while True:
        character = yield from text.peek()
        if whole := text.match(_WHOLE):
            emit(whole.translate(_CONTROLS))
        elif character == '"':
            text.skip()
            emit('"')
            return
        elif text.waiting >= _LONGEST_ESCAPE:  # no escape at all: as it is, for nothing may be lost
            text.skip()
            emit(character)
        else:
            yield from text.more()


def _skip_value(text: Text) -> Wait[str]:
    """Read any value whole and return its text."""
    character = yield from text.peek()
    if character in "{[":
        parts: list[str] = []
        yield from read_value(text, parts.append)
        return "".join(parts)
    if character == '"':
        return json.dumps((yield from read_string(text)), ensure_ascii=False)
    parts = []
    while True:
        if literal := text.match(_LITERAL):
            parts.append(literal)
            if not text.waiting:
                yield from text.more()
        elif parts:
            return "".join(parts)
        else:
            raise MalformedError


class _Call:
    """One object with the name of a function and its arguments, its members in any order."""

    def __init__(self, text: Text, out: Pieces, known: Collection[str] | None) -> None:
        self._text = text
        self._out = out
        self._known = known
        self._name = ""
        self._held: str | None = None

    def read(self) -> Wait[None]:
        yield from self._members()
        out = self._out
        if not out.in_call:
            # Without a marker before it an object with no arguments may be any object.
            if not self._name or (self._known is not None and self._held is None):
                raise MalformedError
            self._open()
            out.arguments(self._held or "")
        out.close()

    def _members(self) -> Wait[None]:
        text = self._text
        yield from text.expect("{")
        yield from text.space()
        if (yield from text.accept("}")):
            return
        while True:
            yield from text.space()
            key = yield from read_string(text)
            yield from text.space()
            yield from text.expect(":")
            yield from text.space()
            yield from self._member(key)
            yield from text.space()
            if not (yield from text.accept(",")):
                yield from text.expect("}")
                return

    def _member(self, key: str) -> Wait[None]:
        character = yield from self._text.peek()
        if key == "name" and character == '"':
            self._name = yield from read_string(self._text)
        elif key == "function" and character == "{":
            yield from self._members()
        elif key not in _ARGUMENTS or self._out.in_call:
            yield from _skip_value(self._text)
        elif character == "{" and self._name:
            self._open()
            yield from read_value(self._text, self._out.arguments)
        else:
            self._held = yield from self._unopened(character)

    def _unopened(self, character: str) -> Wait[str]:
        """Read arguments whole: those before the name, and those that are a string with JSON in it."""
        if character == '"':
            return (yield from read_string(self._text))
        value = yield from _skip_value(self._text)
        if character != "{" and value != "null":
            raise MalformedError
        return "" if value == "null" else value

    def _open(self) -> None:
        if self._known is not None and self._name not in self._known:
            raise MalformedError
        self._out.open(self._name)


def read_calls(text: Text, out: Pieces, known: Collection[str] | None = None) -> Wait[None]:
    """Read one call, a list of calls, or calls one after the other.

    With `known` only those names make a call; for notations that no marker tells from a JSON answer.
    """
    yield from text.space()
    listed = bool((yield from text.accept("[")))
    yield from text.space()
    while True:
        yield from _Call(text, out, known).read()
        text.mark()
        if not (yield from text.space()):
            return
        if listed and (yield from text.accept("]")):
            text.mark()
            return
        yield from text.accept(",", ";")
        if not (yield from text.space()) or (not listed and (yield from text.peek()) != "{"):
            return


def as_json(value: Any) -> str:
    """Return the JSON text of a value, as arguments are written.

    Raises:
        ValueError: JSON has no such number: what is not one, or is infinite.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
