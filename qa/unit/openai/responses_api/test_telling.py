import json

import msgspec

from tritium.llm.reading.piece import Content, Reasoning, ToolArguments, ToolCall
from tritium.openai.responses import PromptTokensDetails, Usage
from tritium.openai.responses_api.schema import ResponseObject
from tritium.openai.responses_api.telling import ResponseTeller
from tritium.openai.telling import Ending, joined

USAGE = Usage(10, 9, 19, PromptTokensDetails(4))
PIECES = [
    Reasoning("let me "),
    Reasoning("think"),
    Content("I will "),
    Content("look."),
    ToolCall(0, "call_1", "weather"),
    ToolArguments(0, '{"city": '),
    ToolArguments(0, '"Oslo"}'),
    ToolCall(1, "call_2", "time"),
    ToolArguments(1, "{}"),
]


def _tell(pieces, finish="tool_calls"):
    over = []
    response = ResponseObject(id="resp_1", created_at=1, model="m", status="in_progress")
    teller = ResponseTeller(response, None, None, over.append)
    events = teller.begin(USAGE)
    for piece in pieces:
        events += teller.take([piece], [])
    events += teller.end(Ending(finish, None, USAGE, 3))
    assert over == [response]
    lines = [line.removeprefix("data: ") for line in events.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines], teller.body()


def test_items():
    """Reasoning, text and each call is an item of its own; every event names the item that it is about."""
    events, response = _tell(PIECES)
    assert [item["type"] for item in _outputs(response)] == ["reasoning", "message", "function_call", "function_call"]
    reasoning, message, call, other = response.output
    assert [part.text for part in reasoning.content] == ["let me think"]
    assert [part.text for part in message.content] == ["I will look."]
    assert (call.call_id, call.name, call.arguments) == ("call_1", "weather", '{"city": "Oslo"}')
    assert (other.call_id, other.arguments, other.status) == ("call_2", "{}", "completed")
    assert len({item.id for item in response.output}) == 4
    ids = [item.id for item in response.output]
    for event in events:
        if "item_id" in event:
            assert ids[event["output_index"]] == event["item_id"]
    assert response.usage.output_tokens_details.reasoning_tokens == 3


def test_order_of_events():
    """Each item is added, filled, done; what it was filled with is told once more, whole."""
    events, _ = _tell(PIECES)
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"]["output"][2]["arguments"] == '{"city": "Oslo"}'


def test_pieces_joined_say_the_same():
    """A whole answer, told from joined pieces, is what the stream's last event has."""
    _, streamed = _tell(PIECES)
    _, whole = _tell(joined(PIECES))
    assert _outputs(streamed) == _outputs(whole)


def _outputs(response):
    return msgspec.to_builtins(response.output)
