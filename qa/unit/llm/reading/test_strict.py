"""Structural tags of strict tools, read by the grammar compiler that vLLM has: what a model can write under them."""

import json

import pytest

from tritium.llm.reading.reading import Tool
from tritium.llm.reading.strict import ENVELOPES, structural_tag
from tritium.llm.reading.table import TOOL_PARSERS

xgrammar = pytest.importorskip("xgrammar", reason="xgrammar comes with vLLM: make test installs it")

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
TOOLS = (Tool("count", SCHEMA, strict=True), Tool("any", SCHEMA))


def takes(tag: str, text: str) -> bool:
    """Tell whether an answer of this text, and its end, are allowed."""
    vocabulary = [chr(code) for code in range(128)] + sorted({char for char in text if ord(char) > 127}) + ["<end>"]
    info = xgrammar.TokenizerInfo(vocabulary, stop_token_ids=[len(vocabulary) - 1])
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info).compile_structural_tag(tag))
    ids = {char: place for place, char in enumerate(vocabulary)}
    return all(matcher.accept_token(ids[char]) for char in text) and matcher.accept_token(len(vocabulary) - 1)


@pytest.mark.parametrize("family", ENVELOPES)
def test_arguments_of_a_strict_tool_satisfy_its_schema(family: str) -> None:
    """Text is free, and calls in every way the family writes them; arguments that do not fit cannot be written."""
    tag = structural_tag(family, TOOLS)
    assert tag is not None
    assert takes(tag, "I need no tool: <b>42</b>.")
    for before, after in ENVELOPES[family].ways:

        def call(name: str, arguments: str, before: str = before, after: str = after) -> str:
            return f"So. {before.replace('NAME', name)}{arguments}{after}"

        assert takes(tag, call("count", '{"n": 7}'))
        assert takes(tag, call("count", '{"n": 7}') + call("count", '{"n": 8}'))
        assert takes(tag, call("any", '{"m": "x"}'))
        for arguments in ('{"n": "7"}', '{"m": 7}', "{}", "[]"):
            assert not takes(tag, call("count", arguments))
        assert not takes(tag, call("unknown", '{"n": 7}'))


def test_what_has_no_tag() -> None:
    """Tools that are not strict leave the model free, and so does a family that none is written for."""
    assert structural_tag("hermes", [Tool("any", SCHEMA)]) is None
    assert structural_tag("hermes", []) is None
    assert structural_tag("pythonic", TOOLS) is None
    assert ENVELOPES.keys() <= TOOL_PARSERS.keys()


def test_a_tool_without_parameters_takes_an_object() -> None:
    """Strict, it takes an object; what it holds is not said."""
    tag = json.loads(structural_tag("hermes", [Tool("now", strict=True)]) or "")
    assert tag["format"]["tags"][0]["content"]["json_schema"] == {"type": "object", "properties": {}}
