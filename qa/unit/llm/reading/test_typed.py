"""Arguments that came as text, by what the tool's schema says of them."""

import pytest

from tritium.llm.reading.reading import Tool
from tritium.llm.reading.typed import as_typed_json, is_text, types_of

NESTED = {"anyOf": []}
for _ in range(200):
    NESTED = {"anyOf": [NESTED]}


@pytest.mark.parametrize(
    ("schema", "raw", "written"),
    [
        ({"type": "string"}, "12", '"12"'),
        ({"type": "integer"}, "12", "12"),
        ({"type": "integer"}, " 12 ", "12"),
        ({"type": "integer"}, "1.5", '"1.5"'),
        ({"type": "number"}, "1.50", "1.5"),
        ({"type": "number"}, "NaN", '"NaN"'),
        ({}, "1e999", '"1e999"'),
        ({"type": "boolean"}, "True", "true"),
        ({"type": ["string", "null"]}, "null", "null"),
        ({"type": ["string", "null"]}, "none", '"none"'),
        ({"enum": ["a", 1]}, "1", "1"),
        ({"enum": ["a"]}, '"a"', '"\\"a\\""'),
        ({"anyOf": [{"type": "array"}, {"type": "null"}]}, "[1, 2]", "[1, 2]"),
        ({"type": "object"}, '{"é": "\n"}', '{"é": "\\n"}'),
        ({}, "5", "5"),
        ({}, '"quoted"', '"quoted"'),
        ({}, "plain words", '"plain words"'),
        ({"anyOf": 5, "type": 7}, "x", '"x"'),
        (NESTED, "1", "1"),
        ({"type": "array"}, "[" * 100_000, None),
    ],
)
def test_values(schema, raw, written):
    """JSON of an allowed type stays as it is, anything else is a string; no schema and no value breaks it."""
    types = types_of(Tool("f", {"properties": {"x": schema}}), "x")
    made = as_typed_json(raw, types)
    assert made == written or (written is None and made.startswith('"[['))


def test_only_strings_can_be_sent_on_at_once():
    """A parameter that may be something else has to be whole before it is known what it is."""
    tool = Tool(
        "f", {"properties": {"s": {"type": "string"}, "e": {"enum": ["a", "b"]}, "n": {"type": ["string", "null"]}}}
    )
    assert [is_text(types_of(tool, name)) for name in ("s", "e", "n", "unknown")] == [True, True, False, False]
    assert not is_text(types_of(None, "s"))
