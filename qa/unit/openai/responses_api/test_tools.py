import json

import pytest

from tritium.llm.model import ModelDefaults
from tritium.llm.reading.choose import Formats

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Berlin"}}</tool_call>'


@pytest.fixture
async def door(open_door):
    async with open_door(defaults=ModelDefaults(formats=Formats("hermes", "qwen3")), context_tokens=2048) as opened:
        yield opened


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_and_calls(door, stream):
    """What the model thinks, says and calls come as items of their own; thinking is counted."""
    door.say(reply=f"<think>let me see</think>I look.{CALL}")
    asked = {"model": "story", "input": "weather?", "tools": [WEATHER]}
    if stream:
        async with door.client.responses.stream(**asked) as events:
            kinds = [event.type async for event in events]
            response = await events.get_final_response()
        assert "response.reasoning_text.delta" in kinds
        assert "response.function_call_arguments.delta" in kinds
    else:
        response = await door.client.responses.create(**asked)
    reasoning, message, call = response.output
    assert [part.text for part in reasoning.content] == ["let me see"]
    assert message.content[0].text == "I look."
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Berlin"})
    thought = len(door.fleet.tokenizer.encode_now("<think>let me see</think>", add_special=False))
    assert 0 < response.usage.output_tokens_details.reasoning_tokens <= thought


async def test_output_goes_back(door):
    """A function's output continues the response that called it."""
    door.say(reply=CALL)
    first = await door.client.responses.create(model="story", input="weather?", tools=[WEATHER])
    [call] = [item for item in first.output if item.type == "function_call"]
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    door.say(reply="It rains.")
    second = await door.client.responses.create(
        model="story", input=output, previous_response_id=first.id, tools=[WEATHER]
    )
    assert second.output_text == "It rains."
    assert door.fleet.tokenizer.decode(door.fleet.requests[-1].token_ids).endswith("rain")
    listed = [item async for item in door.client.responses.input_items.list(second.id)]
    assert [item.type for item in listed] == ["function_call_output"]


async def test_forced_function(door):
    """A function that must be called is held to its schema."""
    door.say(reply='{"city": "Berlin"}')
    choice = {"type": "function", "name": "get_weather"}
    response = await door.client.responses.create(model="story", input="x", tools=[WEATHER], tool_choice=choice)
    [call] = response.output
    assert json.loads(call.arguments) == {"city": "Berlin"}
    assert door.fleet.requests[0].sampling["structured_outputs"]["json"] == WEATHER["parameters"]


async def test_allowed_tools(door):
    """allowed_tools narrows the tools that the model is shown."""
    other = {**WEATHER, "name": "now"}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "now"}]}
    door.say(reply='<tool_call>{"name": "now", "arguments": {}}</tool_call>')
    response = await door.client.responses.create(model="story", input="x", tools=[WEATHER, other], tool_choice=choice)
    assert [item.name for item in response.output] == ["now"]
