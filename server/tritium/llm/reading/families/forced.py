"""Calls that the engine was made to write: tool_choice "required", or a named function.

A named function's arguments are the whole text; otherwise it is a list of {"name": ..., "parameters": {...}}.
"""

from tritium.llm.reading.grammar import Calls, Grammar, Scene, content_with_calls
from tritium.llm.reading.json_text import read_calls, read_value
from tritium.llm.reading.text import MalformedError, Wait


def forced(name: str) -> Grammar:
    """Return the grammar of a call of that function, or of any functions for "*"."""

    def any_calls(scene: Scene, _opener: str) -> Wait[None]:
        yield from read_calls(scene.text, scene.out)

    def arguments(scene: Scene, _opener: str) -> Wait[None]:
        if (yield from scene.text.peek()) != "{":
            raise MalformedError
        scene.out.open(name)
        yield from read_value(scene.text, scene.out.arguments)
        scene.out.close()
        scene.text.mark()

    calls = Calls((), any_calls if name == "*" else arguments, bare="[{")
    return lambda scene: content_with_calls(scene, calls)
