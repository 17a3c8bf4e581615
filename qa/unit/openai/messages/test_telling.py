import json

import msgspec
import pytest

from tritium.core.errors import WorkerLost
from tritium.llm.reading.piece import Content, Reasoning, ToolArguments, ToolCall
from tritium.openai.messages.telling import MessageTeller
from tritium.openai.responses import PromptTokensDetails, Usage
from tritium.openai.telling import Ending, joined

USAGE = Usage(10, 5, 15, PromptTokensDetails(4))
PIECES = [
    Reasoning("let me "),
    Reasoning("think"),
    Content("I will "),
    Content("look."),
    ToolCall(0, "call_1", "weather"),
    ToolArguments(0, '{"city": '),
    ToolArguments(0, '"Oslo"}'),
    ToolCall(1, "call_2", "time"),
]


def _tell(pieces, finish="tool_calls", stop_reason=None):
    """Return the events and the whole message of a completion made of these pieces."""
    teller = MessageTeller("msg_1", "story", "req_1")
    events = teller.begin(USAGE)
    for piece in pieces:
        events += teller.take([piece], [])
    events += teller.end(Ending(finish, stop_reason, USAGE))
    parsed = [json.loads(line.removeprefix("data: ")) for line in events.decode().splitlines() if "data: " in line]
    return parsed, msgspec.to_builtins(teller.body())


def test_blocks():
    """Reasoning, text and each tool call is a block of its own, opened, filled and closed in order."""
    events, message = _tell(PIECES)
    blocks = [e["content_block"]["type"] for e in events if e["type"] == "content_block_start"]
    assert blocks == ["thinking", "text", "tool_use", "tool_use"]
    assert message["content"] == [
        {"type": "thinking", "thinking": "let me think", "signature": ""},
        {"type": "text", "text": "I will look."},
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "call_2", "name": "time", "input": {}},
    ]
    assert message["stop_reason"] == "tool_use"
    open_ = None
    for event in events:
        if event["type"] == "content_block_start":
            assert open_ is None
            open_ = event["index"]
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_
            open_ = None
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_
    assert open_ is None


def test_usage():
    """Cached tokens are told beside the input tokens, not among them."""
    _, message = _tell([Content("x")], "stop")
    assert message["usage"] == {
        "input_tokens": 6,
        "output_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
    }


@pytest.mark.parametrize(
    ("finish", "stop", "reason", "sequence"),
    [
        ("stop", None, "end_turn", None),
        ("stop", 42, "end_turn", None),
        ("stop", "END", "stop_sequence", "END"),
        ("length", None, "max_tokens", None),
        ("tool_calls", None, "tool_use", None),
    ],
)
def test_reasons(finish, stop, reason, sequence):
    """Why a message ended, in Anthropic's words."""
    _, message = _tell([Content("x")], finish, stop)
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_input_that_was_cut_short():
    """A tool call that max_tokens cut is no object; its input is empty and the reason says so."""
    _, message = _tell([ToolCall(0, "call_1", "weather"), ToolArguments(0, '{"ci')], "length")
    assert (message["content"][0]["input"], message["stop_reason"]) == ({}, "max_tokens")


def test_failure_names_the_request():
    """A stream that fails ends with Anthropic's error event."""
    event = MessageTeller("msg_1", "story", "req_1").fail(WorkerLost("worker w died"))
    assert event.startswith(b"event: error\n")
    assert json.loads(event.partition(b"data: ")[2]) == {
        "type": "error",
        "error": {"type": "api_error", "message": "worker w died"},
        "request_id": "req_1",
    }


def test_joined():
    """Neighbours of a kind become one piece; calls are kept apart."""
    assert joined(PIECES) == [
        Reasoning("let me think"),
        Content("I will look."),
        ToolCall(0, "call_1", "weather"),
        ToolArguments(0, '{"city": "Oslo"}'),
        ToolCall(1, "call_2", "time"),
    ]
