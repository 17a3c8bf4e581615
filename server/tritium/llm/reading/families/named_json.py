r"""Calls whose name stands outside the JSON of their arguments.

[TOOL_CALLS]f[ARGS]{...}[TOOL_CALLS]g[ARGS]{...}       Mistral, also without [ARGS]; older: [TOOL_CALLS][{...}, {...}]
<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{...}<|tool_call_end|>            Kimi K2
<｜tool▁call▁begin｜>f<｜tool▁sep｜>{...}<｜tool▁call▁end｜>                                     DeepSeek V3.1
<｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{...}\n```<｜tool▁call▁end｜>            DeepSeek V3, R1
"""

import secrets
import string

from tritium.llm.reading.families.tagged_json import close
from tritium.llm.reading.grammar import Calls, Scene
from tritium.llm.reading.json_text import read_calls, read_value
from tritium.llm.reading.text import MalformedError, Wait


def read_arguments(scene: Scene, name: str, call_id: str = "") -> Wait[None]:
    """Read the object of a call's arguments; one that is not there is empty.

    Raises:
        MalformedError: there is no name, or something else than an object comes.
    """
    text = scene.text
    more = yield from text.space()
    if not name or (more and (yield from text.peek()) not in "{<[`"):
        raise MalformedError
    scene.out.open(name, call_id)
    if more and (yield from text.peek()) == "{":
        yield from read_value(text, scene.out.arguments)
    scene.out.close()
    text.mark()


_ALPHANUMERIC = string.ascii_letters + string.digits


def _mistral_id() -> str:
    """Return an id that Mistral's own templates take: nine letters and digits."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))


def _mistral(scene: Scene, _opener: str) -> Wait[None]:
    text = scene.text
    yield from text.space()
    if (yield from text.peek()) in "[{":
        yield from read_calls(text, scene.out)
        return
    name, found = yield from text.upto(_CALL_ID, _ARGS, "{")
    call_id = ""
    if found == _CALL_ID:
        call_id, found = yield from text.upto(_ARGS, "{")
    if found == "{":
        text.back(1)
    yield from read_arguments(scene, name.strip(), call_id.strip())


_ARGS, _CALL_ID = "[ARGS]", "[CALL_ID]"
MISTRAL = Calls(("[TOOL_CALLS]",), _mistral, others=(_ARGS, _CALL_ID), new_id=_mistral_id)


def _kimi(scene: Scene, _opener: str) -> Wait[None]:
    header, _ = yield from scene.text.upto("<|tool_call_argument_begin|>")
    native = header.strip()
    name = native.rpartition(":")[0] or native
    # The template writes the id of a past call as it stands, so the model's own is kept.
    yield from read_arguments(scene, name.removeprefix("functions."), native if ":" in native else "")
    yield from close(scene, _KIMI_END, KIMI_K2.openers)


_KIMI_END = "<|tool_call_end|>"
KIMI_K2 = Calls(
    ("<|tool_call_begin|>",),
    _kimi,
    others=(
        "<|tool_calls_section_begin|>",
        "<|tool_calls_section_end|>",
        "<|tool_call_argument_begin|>",
        _KIMI_END,
    ),
)


def _deepseek(scene: Scene, _opener: str) -> Wait[None]:
    text = scene.text
    name, _ = yield from text.upto("<｜tool▁sep｜>")
    yield from text.space()
    if (yield from text.peek()) not in "{<":
        name, _ = yield from text.upto("\n")
        yield from text.space()
        yield from text.accept("```json")
    yield from read_arguments(scene, name.strip())
    yield from close(scene, _DEEPSEEK_END, DEEPSEEK_V3.openers)


_DEEPSEEK_END = "<｜tool▁call▁end｜>"
DEEPSEEK_V3 = Calls(
    ("<｜tool▁call▁begin｜>",),
    _deepseek,
    others=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁sep｜>", _DEEPSEEK_END),
)
