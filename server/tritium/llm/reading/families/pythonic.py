"""Calls written as Python: [f(a=1, b="x"), g()], as Llama 3.2 and 4 and several others do.

An argument is sent on when it is whole.
"""

import ast
import re
from typing import Any

from tritium.llm.reading.grammar import Calls, Scene
from tritium.llm.reading.json_text import as_json
from tritium.llm.reading.text import MalformedError, Text, Wait

_NAME = re.compile(r"[\w.-]+")
_KEYWORD = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)(.*)", re.DOTALL)
_PLAIN = re.compile(r"[^\"'()\[\]{},]+")
_STRING = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
_WORDS = {"true": "True", "false": "False", "null": "None"}


def _pythonic(scene: Scene, _opener: str) -> Wait[None]:
    text = scene.text
    yield from text.space()
    yield from text.expect("[")
    while True:
        yield from text.space()
        yield from _call(scene)
        text.mark()
        yield from text.space()
        if not (yield from text.accept(",")):
            yield from text.expect("]")
            text.mark()
            return
        yield from text.space()
        if (yield from text.accept("]")):
            text.mark()
            return


def _call(scene: Scene) -> Wait[None]:
    text, out = scene.text, scene.out
    name = ""
    while True:
        name += text.match(_NAME)
        if text.waiting:
            break
        yield from text.more()
    yield from text.space()
    yield from text.expect("(")
    if name not in scene.tools:
        raise MalformedError
    out.open(name)
    names = list(scene.tools[name].parameters.get("properties") or ())
    given: dict[str, Any] = {}
    while True:
        written, end = yield from _argument(text)
        if written.strip():
            key, value = _read(written, names, len(given))
            out.arguments(("{" if not given else ", ") + as_json(key) + ": " + as_json(value))
            given[key] = value
        if end == ")":
            break
    if given:
        out.arguments("}")
    out.close()


def _argument(text: Text) -> Wait[tuple[str, str]]:
    """Read one argument as it is written, and the comma or parenthesis behind it."""
    written, depth = "", 0
    while True:
        character = yield from text.peek()
        if character in "\"'":
            while not (string := text.match(_STRING)):
                yield from text.more(character)
            written += string
            continue
        if plain := text.match(_PLAIN):
            written += plain
            continue
        text.skip()
        if not depth and character in ",)":
            return written, character
        depth += (character in "([{") - (character in ")]}")
        written += character


def _read(written: str, names: list[str], place: int) -> tuple[str, Any]:
    """Return the name and value of an argument; one without a name has that of its place."""
    match = _KEYWORD.fullmatch(written)
    key, value = match.groups() if match else (names[place] if place < len(names) else f"argument_{place}", written)
    return key, _literal(value.strip())


def _literal(value: str) -> Any:
    """Return what a Python literal says; anything else is text."""
    try:
        read = ast.literal_eval(_WORDS.get(value, value))
        as_json(read)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
    return read


PYTHONIC = Calls(("<|python_start|>",), _pythonic, bare="[", others=("<|python_end|>",))
