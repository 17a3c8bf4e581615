"""Readers on noise: whatever a model writes, however it is cut, nothing breaks and the same is read."""

import importlib.util
import random
import sys
from pathlib import Path

import pytest

from tritium.llm.reading.choose import Formats, formats_of
from tritium.llm.reading.families.harmony import MARKERS
from tritium.llm.reading.reading import Asked, Tool
from tritium.llm.reading.table import HARMONY, REASONING_PARSERS, TOOL_PARSERS

_SPEC = importlib.util.spec_from_file_location("reader_scripts_for_noise", Path(__file__).parent / "script.py")
script = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = script
_SPEC.loader.exec_module(script)

TOOLS = (
    Tool("f", {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {}}}),
    Tool("g"),
)
CRUMBS = (
    *'{}[](),:;"=<>\\ \n',
    *(
        "f",
        "g",
        "f(a=1)",
        "name",
        "arguments",
        "parameters",
        "true",
        "-1.5e3",
        '{"name": "f", "arguments": {"a": "x"}}',
    ),
    *(
        '"name"',
        '"arguments"',
        '"f"',
        "\\u00e9",
        "\\ud83d",
        "\\ude00",
        "\\uZZ",
        "é",
        "日本",
        "🙂",
        "text ",
        " and",
        "\t",
    ),
    *("<function=f>", "<parameter=a>", "</parameter>", "</function>", "<arg_key>", "</arg_key>", "<arg_value>"),
    *('<invoke name="f">', '<parameter name="b">', "</invoke>", "</arg_value>", "to=functions.f", "assistant"),
    *("analysis", "final", "```json\n", "\n```", "functions.f:0", "function", "functools", "Here is my"),
)


def noise(formats, chance):
    markers = list(_markers(formats))
    return "".join(
        chance.choice(markers if markers and chance.random() < 0.4 else CRUMBS) for _ in range(chance.randint(1, 25))
    )


def _markers(formats):
    calls, thoughts = formats.calls, formats.thoughts
    harmony = MARKERS if formats.harmony else ()
    return (*(calls.markers if calls else ()), *(thoughts.markers if thoughts else ()), *harmony)


PAIRS = [(tool, "none") for tool in TOOL_PARSERS] + [("none", name) for name in REASONING_PARSERS]
PAIRS += [("hermes", "qwen3"), ("deepseek_v3", "deepseek_r1"), ("mistral", "mistral"), ("granite", "granite")]


@pytest.mark.parametrize(("tool", "reasoning"), PAIRS)
def test_noise_is_read_the_same_however_it_is_cut(tool, reasoning):
    """A hundred texts of markers and crumbs of calls, whole, by characters and at random cuts."""
    formats = formats_of(tool, reasoning, "")
    chance = random.Random(f"{tool} {reasoning}")
    for _ in range(100):
        text = noise(formats, chance)
        asked = Asked(tools=TOOLS, forced=chance.choice(["", "", "", "f", "*"]), parallel=chance.random() < 0.8)
        prompt = chance.choice(["", "<think>\n", "<think></think>"])
        special = tuple(m for m in _markers(formats) if chance.random() < 0.5)
        case = script.Case("noise", text, [], formats, asked, special, prompt)
        whole = script.run(case, []).lines
        assert whole == script.run(case, list(range(1, len(text)))).lines, text
        cuts = sorted(chance.sample(range(1, len(text)), min(len(text) - 1, 5))) if len(text) > 1 else []
        assert whole == script.run(case, cuts).lines, (text, cuts)


@pytest.mark.parametrize("tool", TOOL_PARSERS)
def test_plain_text_is_itself(tool):
    """A text without markers is its own content, to the last character."""
    chance = random.Random(tool)
    for _ in range(50):
        text = "".join(chance.choice(["word", " ", "\n", ". ", "a(b)", "é", "x = 1", "\t", ","]) for _ in range(20))
        case = script.Case("plain", text, [], Formats(tool), Asked(tools=TOOLS), ())
        if tool != HARMONY:
            assert "".join(p.text for p in _pieces(case)) == text


def _pieces(case):
    reader = case.reading().begin()
    return [*reader.push(case.text), *reader.end()]
