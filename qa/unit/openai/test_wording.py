"""Refusals of responses and messages name what their clients wrote, and not what a chat completion calls it."""

import pytest

from tritium.core.errors import SamplingRefused
from tritium.llm.model import ModelDefaults
from tritium.llm.reading.choose import Formats

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
TEXT = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
RESPONSE = {"model": "story", "input": "x"}
MESSAGE = {"model": "story", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
async def door(open_door):
    async with open_door(defaults=ModelDefaults(formats=Formats("hermes", "none")), context_tokens=512) as opened:
        yield opened


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": {"type": "array"}}]}, "tools[0].parameters"),
        ({"top_logprobs": 50}, "top_logprobs"),
        ({"input": "word " * 900}, "input"),
    ],
)
async def test_responses(door, body, param):
    """A response's field is at fault, and its message says so."""
    answer = await door.http.post("/v1/responses", json=RESPONSE | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert ".function" not in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "own"),
    [
        ("/v1/responses", RESPONSE | {"text": TEXT}, "text.format"),
        ("/v1/messages", MESSAGE | {"output_config": FORMAT}, "output_config.format"),
    ],
)
async def test_a_form_that_no_engine_takes(open_door, path, body, own):
    """What holds an answer to a form is refused by the protocol's name: by the front, and by the engine later."""
    async with open_door(structured=False) as door:
        error = (await door.http.post(path, json=body)).json()["error"]
        assert own in error["message"]
        assert "response_format" not in error["message"]
    async with open_door() as door:
        door.say(fail_at=0, failure=SamplingRefused("structured_outputs", "cannot be compiled"))
        answer = await door.http.post(path, json=body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["message"] == "cannot be compiled"
        if path == "/v1/responses":
            assert error["param"] == own


@pytest.mark.parametrize(
    ("tool", "own"),
    [
        ({"name": "a b", "input_schema": {}}, "tools[0].name"),
        ({"name": "f", "input_schema": {"properties": 1}}, "function 'f'"),
        ({"name": "f", "input_schema": {}, "strict": 1}, "strict"),
    ],
)
async def test_messages(door, tool, own):
    """Anthropic's errors name no field beside their sentence: it stands in that."""
    answer = await door.http.post("/v1/messages", json=MESSAGE | {"tools": [tool]})
    assert answer.status_code == 400
    assert own in answer.json()["error"]["message"]
    assert ".function" not in answer.json()["error"]["message"]
