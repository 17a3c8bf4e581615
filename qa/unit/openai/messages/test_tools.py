import anthropic
import pytest

from tritium.llm.model import ModelDefaults
from tritium.llm.reading.choose import Formats

WEATHER = {
    "name": "get_weather",
    "description": "Tell the weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
HELLO = {"model": "story", "max_tokens": 200, "messages": [{"role": "user", "content": "weather?"}]}
CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Berlin"}}</tool_call>'


@pytest.fixture
async def door(open_door):
    async with open_door(defaults=ModelDefaults(formats=Formats("hermes", "qwen3")), context_tokens=2048) as opened:
        yield opened


async def _ask(door, *, stream, **fields):
    http = anthropic.DefaultAsyncHttpxClient(verify=False)
    async with anthropic.AsyncAnthropic(base_url=door.url, api_key="none", max_retries=0, http_client=http) as client:
        if not stream:
            return await client.messages.create(**HELLO, **fields)
        async with client.messages.stream(**HELLO, **fields) as events:
            return await events.get_final_message()


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_and_tool_use(door, stream):
    """What the model thinks, says and calls come as blocks of their own, whole as streamed."""
    door.say(reply=f"<think>let me see</think>I look.{CALL}")
    message = await _ask(door, stream=stream, tools=[WEATHER])
    thinking, text, call = message.content
    assert (thinking.type, thinking.thinking) == ("thinking", "let me see")
    assert text.text == "I look."
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Berlin"})
    assert message.stop_reason == "tool_use"


async def test_forced_tool(door):
    """A tool that must be used is held to its schema, and still ends the message as tool use."""
    door.say(reply='[{"name": "get_weather", "parameters": {"city": "Berlin"}}]')
    message = await _ask(door, stream=False, tools=[WEATHER], tool_choice={"type": "any"})
    assert [(b.type, b.input) for b in message.content] == [("tool_use", {"city": "Berlin"})]
    assert message.stop_reason == "tool_use"
    assert "structured_outputs" in door.fleet.requests[0].sampling


async def test_result_goes_back(door):
    """A tool's result is shown to the model as the tool's own message."""
    door.say(reply=CALL)
    first = await _ask(door, stream=False, tools=[WEATHER])
    turns = [
        *HELLO["messages"],
        {"role": "assistant", "content": [block.to_dict() for block in first.content]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": first.content[0].id, "content": "rain"}]},
    ]
    answer = await door.http.post("/v1/messages", json={**HELLO, "messages": turns, "tools": [WEATHER]})
    assert answer.status_code == 200
    assert door.fleet.tokenizer.decode(door.fleet.requests[-1].token_ids).endswith("rain")
