"""A completion told as Anthropic's message: blocks of text, thinking and tool use, opened and closed in turn.

message_start, ping, (content_block_start, content_block_delta ..., content_block_stop) ..., message_delta,
message_stop
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from tritium.backends.engine import TokenLogprob
from tritium.core.errors import InferenceError
from tritium.llm.reading.piece import Content, Piece, Reasoning, ToolArguments, ToolCall
from tritium.openai.messages.errors import anthropic_error
from tritium.openai.messages.schema import Message, MessageUsage, TextAnswer, ThinkingAnswer, ToolUseAnswer
from tritium.openai.responses import Usage
from tritium.openai.telling import Ending

_JSON = msgspec.json.Encoder()

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class MessageTeller:
    """Writes one message."""

    def __init__(self, message_id: str, model: str, request_id: str) -> None:
        self._message = Message(message_id, model, [], MessageUsage(0, 0))
        self._request_id = request_id
        self._open: TextAnswer | ThinkingAnswer | ToolUseAnswer | None = None
        self._said: list[str] = []
        """What the open block holds so far: its text, or the JSON of a tool's input."""

    def begin(self, usage: Usage) -> bytes:
        """Start the message."""
        self._message.usage = _usage(usage)
        return _event("message_start", {"message": self._message}) + _PING

    def take(self, pieces: Sequence[Piece], _scores: Sequence[Sequence[TokenLogprob]]) -> bytes:
        """Tell what came, in the block that it belongs to."""
        return b"".join(map(self._piece, pieces))

    def end(self, ending: Ending) -> bytes:
        """Close the last block and say why the message ended."""
        events = self._close()
        message = self._message
        message.usage = _usage(ending.usage)
        message.stop_reason, message.stop_sequence = self._reason(ending)
        delta = {"stop_reason": message.stop_reason, "stop_sequence": message.stop_sequence}
        return events + _event("message_delta", {"delta": delta, "usage": message.usage}) + _STOP

    def fail(self, error: InferenceError) -> bytes:
        """Say that the message ends here, and why."""
        return b"event: error\ndata: " + _JSON.encode(anthropic_error(error, self._request_id)) + b"\n\n"

    def body(self) -> Message:
        """Return the whole message."""
        return self._message

    def _piece(self, piece: Piece) -> bytes:
        match piece:
            case Content(text):
                opened = self._open_as(TextAnswer(""))
                return opened + self._delta("text_delta", "text", text)
            case Reasoning(text):
                opened = self._open_as(ThinkingAnswer(""))
                return opened + self._delta("thinking_delta", "thinking", text)
            case ToolCall(_, id, name):
                return self._close() + self._open_as(ToolUseAnswer(id, name, {}))
            case ToolArguments(_, fragment):
                return self._delta("input_json_delta", "partial_json", fragment)

    def _open_as(self, block: TextAnswer | ThinkingAnswer | ToolUseAnswer) -> bytes:
        """Open a block, unless one of its kind is open."""
        if type(self._open) is type(block):
            return b""
        closed = self._close()
        self._open = block
        self._message.content.append(block)
        return closed + self._block_event("content_block_start", content_block=block)

    def _delta(self, kind: str, field: str, text: str) -> bytes:
        self._said.append(text)
        return self._block_event("content_block_delta", delta={"type": kind, field: text})

    def _close(self) -> bytes:
        block, said = self._open, "".join(self._said)
        self._open, self._said = None, []
        match block:
            case TextAnswer():
                block.text = said
            case ThinkingAnswer():
                block.thinking = said
            case ToolUseAnswer():
                block.input = _object(said)
            case None:
                return b""
        return self._block_event("content_block_stop")

    def _block_event(self, kind: str, **fields: Any) -> bytes:
        return _event(kind, {"index": len(self._message.content) - 1, **fields})

    def _reason(self, ending: Ending) -> tuple[str, str | None]:
        if ending.finish == "length":
            return "max_tokens", None
        if ending.finish == "tool_calls":
            return "tool_use", None
        if isinstance(ending.stop_reason, str):
            return "stop_sequence", ending.stop_reason
        return "end_turn", None


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _JSON.encode({"type": kind, **fields}))


def _usage(usage: Usage) -> MessageUsage:
    cached = usage.prompt_tokens_details.cached_tokens
    return MessageUsage(usage.prompt_tokens - cached, usage.completion_tokens, cache_read_input_tokens=cached)


def _object(text: str) -> dict[str, Any]:
    """Return a tool's input; one that was cut short by the end of the answer is no object, and comes empty."""
    try:
        return msgspec.json.decode(text or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
