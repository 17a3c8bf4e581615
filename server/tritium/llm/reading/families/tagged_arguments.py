"""Calls whose arguments are tagged one by one, as text; the tool's schema says which of it is JSON.

    <tool_call><function=f><parameter=KEY>VALUE</parameter></function></tool_call>              Qwen 3 Coder, Seed-OSS
    <tool_call>f<arg_key>KEY</arg_key><arg_value>VALUE</arg_value></tool_call>                  GLM 4.5 and later
    <minimax:tool_call><invoke name="f"><parameter name="KEY">VALUE</parameter></invoke></...>  MiniMax M2

Text is sent on as it comes, so that a file an agent writes streams; any other value goes when it is whole.
"""

import json

from tritium.llm.reading.families.tagged_json import close
from tritium.llm.reading.grammar import Calls, Scene
from tritium.llm.reading.json_text import as_json, read_calls
from tritium.llm.reading.text import MalformedError, Wait, markers
from tritium.llm.reading.typed import as_typed_json, is_text, types_of


class _Arguments:
    """Writes the object of one call's arguments, member by member."""

    def __init__(self, scene: Scene, name: str) -> None:
        self._scene = scene
        self._tool = scene.tools.get(name)
        self._first = True

    def read(self, key: str, *ends: str) -> Wait[str]:
        """Read the value of a key up to one of `ends` and return that; the line end at each edge is notation.

        Raises:
            MalformedError: the text ends before the value does.
        """
        out, text = self._scene.out, self._scene.text
        types = types_of(self._tool, key)
        out.arguments(("{" if self._first else ", ") + as_json(key) + ": ")
        self._first = False
        if not is_text(types):
            raw, found = yield from text.upto(*ends)
            out.arguments(as_typed_json(raw.removeprefix("\n").removesuffix("\n"), types))
            return found
        out.arguments('"')
        yield from text.accept("\n")
        held = ""

        def emit(part: str) -> None:
            nonlocal held
            part = held + part
            held = "\n" if part.endswith("\n") else ""
            out.arguments(json.dumps(part.removesuffix("\n"), ensure_ascii=False)[1:-1])

        found = yield from text.passing(markers(*ends), emit)
        if not found:
            raise MalformedError
        out.arguments('"')
        return found

    def end(self) -> None:
        if not self._first:
            self._scene.out.arguments("}")
        self._scene.out.close()
        self._scene.text.mark()


def _functions(function: str, parameter: str, ends: tuple[str, str], opener: str, closer: str, quote: str) -> Calls:
    """Return a notation with a tag for the function and one for each of its parameters, `ends` are their closers."""
    function_end, parameter_end = ends
    openers = (opener, function)

    def read(scene: Scene, found: str) -> Wait[None]:
        text = scene.text
        if found == opener:
            yield from text.space()
            if (yield from text.peek()) == "{":  # a model that falls back to Hermes' way
                yield from read_calls(text, scene.out)
                yield from close(scene, closer, openers)
                return
            yield from text.expect(function)
        name, _ = yield from text.upto(">")
        name = name.strip().strip(quote)
        if not name or "\n" in name:
            raise MalformedError
        scene.out.open(name)
        arguments = _Arguments(scene, name)
        ahead = ""
        while (ahead or (yield from text.upto(parameter, function_end, closer))[1]) == parameter:
            key, _ = yield from text.upto(">")
            ahead = yield from arguments.read(key.strip().strip(quote), parameter_end, parameter, function_end)
            ahead = "" if ahead == parameter_end else ahead
        arguments.end()
        yield from text.space()
        yield from text.accept(closer)
        text.mark()

    return Calls(openers, read, others=(closer,))


QWEN_3_CODER = _functions(
    "<function=", "<parameter=", ("</function>", "</parameter>"), "<tool_call>", "</tool_call>", '"'
)
SEED_OSS = _functions(
    "<function=", "<parameter=", ("</function>", "</parameter>"), "<seed:tool_call>", "</seed:tool_call>", '"'
)
MINIMAX_M2 = _functions(
    "<invoke name=",
    "<parameter name=",
    ("</invoke>", "</parameter>"),
    "<minimax:tool_call>",
    "</minimax:tool_call>",
    '"',
)


def _glm(scene: Scene, _opener: str) -> Wait[None]:
    text = scene.text
    name, found = yield from text.upto(_KEY, _GLM_END)
    if not (name := name.strip()) or "\n" in name:
        raise MalformedError
    scene.out.open(name)
    arguments = _Arguments(scene, name)
    while found == _KEY:
        key, _ = yield from text.upto("</arg_key>")
        yield from text.upto("<arg_value>")
        yield from arguments.read(key.strip(), "</arg_value>")
        _, found = yield from text.upto(_KEY, _GLM_END)
    arguments.end()


_KEY, _GLM_END = "<arg_key>", "</tool_call>"
GLM_45 = Calls(("<tool_call>",), _glm, others=(_GLM_END, _KEY, "</arg_key>", "<arg_value>", "</arg_value>"))
