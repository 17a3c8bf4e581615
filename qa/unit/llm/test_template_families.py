"""Templates of the families that are served most, written anew from their documented formats, each against many chats.

What Hugging Face's apply_chat_template makes of them, its refusals included, is what has to come out.
"""

from pathlib import Path

import pytest

from tritium.core.errors import InvalidArgument
from tritium.llm.content_format import ContentFormat
from tritium.llm.template import ChatTemplate

chat_template_utils = pytest.importorskip("transformers.utils.chat_template_utils")

FAMILIES = {path.stem: path.read_text() for path in sorted((Path(__file__).parent / "templates").glob("*.jinja"))}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": 'Tell the weather of a place.\nÜber <alles> & "mehr".',
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Wo? 東京"},
                    "days": {"type": "integer", "default": 3},
                    "units": {"type": "string", "enum": ["c", "f"]},
                    "hours": {"type": "array", "items": {"type": "number"}},
                    "where": {"type": "object", "properties": {"lat": {"type": ["number", "null"]}}},
                },
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object"}}},
]


def _call(number, name, arguments):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "  What is it?\n"}
SYSTEM = {"role": "system", "content": "Be kind. /no_think"}
TALK = [
    USER,
    {"role": "assistant", "content": " An answer. "},
    {"role": "user", "content": "And <b>this</b> & 'that'?"},
]
CALLED = [
    {"role": "user", "content": "Wie ist das Wetter in 東京? 🌦️"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [_call(1, "get_weather", {"city": "東京", "days": 2, "x": None})],
    },
    {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"sky": "grau"}'},
]
CHATS = {
    "one_message": [USER],
    "system": [SYSTEM, USER],
    "turns": TALK,
    "system_and_turns": [SYSTEM, *TALK],
    "called": CALLED,
    "answered": [*CALLED, {"role": "assistant", "content": "Grey."}, {"role": "user", "content": "Thanks 🙂"}],
    "called_twice": [
        SYSTEM,
        CALLED[0],
        {
            "role": "assistant",
            "content": "Two.",
            "tool_calls": [_call(2, "now", {}), _call(3, "get_weather", {"city": 'é"\\\n\u2028'})],
        },
        {"role": "tool", "tool_call_id": "call00002", "content": "12:00"},
        {"role": "tool", "tool_call_id": "call00003", "content": "wet"},
    ],
    "thought": [USER, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}, *TALK[2:]],
    "thought_aside": [USER, {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"}],
    "parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is this? "}]}],
    "unicode": [{"role": "user", "content": "a\u0301 \u200d\ufeff\x00\x7f\ud7ff 👩‍👩‍👧 {{ 1 }} {% if %}"}],
    "ends_with_answer": [USER, {"role": "assistant", "content": "It begins "}],
    "no_user": [{"role": "assistant", "content": "Hello"}],
    "nothing_said": [{"role": "user", "content": ""}],
}
VARIABLES = [
    {},
    {"tools": TOOLS},
    {"tools": TOOLS, "enable_thinking": False, "thinking": True, "tools_in_user_message": False},
    {
        "documents": [{"title": "One", "text": "first é"}, {"title": "Two", "text": "second"}],
        "controls": {"length": "long"},
    },
    {"reasoning_effort": "high", "date_string": "1 Jan 2026", "enable_thinking": True},
]


def _hugging_face(source, chat, **given):
    """Return what transformers renders, None where the template refuses, with whatever it raises."""
    try:
        rendered, _ = chat_template_utils.render_jinja_template([chat], chat_template=source, **SPECIAL, **given)
    except Exception:
        return None
    return rendered[0]


def _ours(template, chat, **given):
    named = {"tools", "documents", "add_generation_prompt", "continue_final_message"}
    variables = {name: value for name, value in given.items() if name not in named}
    given = {"add_generation_prompt": False, **{name: value for name, value in given.items() if name in named}}
    try:
        return template.render(chat, variables=variables, **given)
    except InvalidArgument:
        return None


@pytest.mark.parametrize("family", FAMILIES)
def test_families_render_as_hugging_face_renders_them(family):
    """Every chat, with tools, documents and switches, gives the same text or is refused by both."""
    template = ChatTemplate(FAMILIES[family], SPECIAL)
    rendered = 0
    for name, chat in CHATS.items():
        for variables in VARIABLES:
            for add in (False, True):
                expected = _hugging_face(FAMILIES[family], chat, add_generation_prompt=add, **variables)
                assert _ours(template, chat, add_generation_prompt=add, **variables) == expected, (name, variables)
                rendered += expected is not None
    assert rendered >= 20


@pytest.mark.parametrize("family", FAMILIES)
def test_families_continue_the_final_message_as_hugging_face_does(family):
    """The prompt ends in the last message at the same character, or neither takes the chat."""
    template = ChatTemplate(FAMILIES[family], SPECIAL)
    endings = ["It begins ", "It begins", "", " ", "\n", "<think>\nhm", "<think>hm</think> so ", "a a", "été\n\n"]
    chats = [[USER, {"role": "assistant", "content": content}] for content in endings]
    chats += [[*TALK[:1], {"role": "assistant", "content": [{"type": "text", "text": "It "}, {"type": "image"}]}]]
    chats += [[{**USER, "content": "go on "}], [SYSTEM, USER], CALLED]
    rendered = 0
    for chat in chats:
        expected = _hugging_face(FAMILIES[family], chat, continue_final_message=True)
        assert _ours(template, chat, continue_final_message=True) == expected, chat
        rendered += expected is not None
    assert rendered >= 5


@pytest.mark.vllm
def test_content_format_is_vllms():
    """Whether a family takes parts is told as vLLM tells it."""
    hf = pytest.importorskip("vllm.renderers.hf")
    expected = {name: hf._detect_content_format(source, default="string") for name, source in FAMILIES.items()}
    assert {name: ChatTemplate(source, SPECIAL).content_format for name, source in FAMILIES.items()} == expected


def test_there_are_enough_families():
    """At least fifteen families are kept, of which some take parts."""
    formats = [ChatTemplate(source, SPECIAL).content_format for source in FAMILIES.values()]
    assert len(formats) >= 15
    assert formats.count(ContentFormat.OPENAI) >= 2
