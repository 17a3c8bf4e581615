"""Calls that are JSON objects with a name and arguments, between markers.

<tool_call>{"name": "f", "arguments": {...}}</tool_call>      Hermes, Qwen 2.5 and 3, Granite 4
<|tool_call|>[{"name": "f", "arguments": {...}}, ...]         Granite 3
functools[{"name": "f", "arguments": {...}}, ...]             Phi 4 mini
<|python_tag|>{"name": "f", "parameters": {...}}; {...}       Llama 3, also without the marker
"""

from tritium.llm.reading.grammar import Calls, Scene
from tritium.llm.reading.json_text import read_calls, read_value
from tritium.llm.reading.text import MalformedError, Wait


def tagged(*pairs: tuple[str, str]) -> Calls:
    """Return the notation of calls between an opener and its closer ("" where the JSON's own end closes them)."""
    closers = dict(pairs)
    openers = tuple(closers)

    def read(scene: Scene, opener: str) -> Wait[None]:
        yield from read_calls(scene.text, scene.out)
        if closers[opener]:
            yield from close(scene, closers[opener], openers)

    return Calls(openers, read, others=tuple(filter(None, closers.values())))


def close(scene: Scene, closer: str, openers: tuple[str, ...]) -> Wait[None]:
    """Read past the closer. A superfluous brace before it is passed over; where it is missing, nothing is."""
    text = scene.text
    text.mark()
    before, found = yield from text.upto(closer, *openers)
    if found != closer:
        scene.out.content(before)
        text.back(len(found))
    text.mark()


HERMES = tagged(("<tool_call>", "</tool_call>"))
GRANITE = tagged(("<|tool_call|>", ""), ("<tool_call>", ""))
JAMBA = tagged(("<tool_calls>", "</tool_calls>"))
LONGCAT = tagged(("<longcat_tool_call>", "</longcat_tool_call>"))


def _phi(scene: Scene, opener: str) -> Wait[None]:
    if opener == _FUNCTOOLS:
        scene.text.back(1)  # the bracket belongs to the list
    yield from read_calls(scene.text, scene.out)
    if opener != _FUNCTOOLS:
        yield from close(scene, _PHI_CLOSER, PHI_4_MINI.openers)


_FUNCTOOLS = "functools["
_PHI_CLOSER = "<|/tool_call|>"
PHI_4_MINI = Calls((_FUNCTOOLS, "<|tool_call|>"), _phi, others=(_PHI_CLOSER,))


def _llama(scene: Scene, opener: str) -> Wait[None]:
    if opener == _FUNCTION:
        yield from _function(scene)
    elif opener:
        yield from read_calls(scene.text, scene.out)
    else:
        yield from read_calls(scene.text, scene.out, known=scene.tools)


def _function(scene: Scene) -> Wait[None]:
    """<function=NAME>{...}</function>: how Llama 3.1 calls functions that its system prompt describes."""
    text, out = scene.text, scene.out
    name, _ = yield from text.upto(">")
    yield from text.space()
    if (yield from text.peek()) != "{":
        raise MalformedError
    out.open(name.strip())
    yield from read_value(text, out.arguments)
    out.close()
    yield from close(scene, "</function>", LLAMA_3_JSON.openers)


_FUNCTION = "<function="
LLAMA_3_JSON = Calls(("<|python_tag|>", _FUNCTION), _llama, bare="{[", others=("<|eom_id|>",))
