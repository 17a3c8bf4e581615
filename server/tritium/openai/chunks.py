"""The server-sent events of a stream, as bytes with one hole for the text.

    data: {"id":...,"choices":[{"index":0,"delta":{"content":"  TEXT  "},"logprobs":null,"finish_reason":null}]}
    |----------------- before(index) ------------------------|      |--------------- after -----------------|

What stands around the text is the same for all tokens of a choice, so it is built once.
"""

from dataclasses import dataclass

import msgspec

from tritium.llm.detokenize import escape
from tritium.llm.reading.piece import Content, Piece, Reasoning, ToolArguments, ToolCall

DONE = b"data: [DONE]\n\n"

_JSON = msgspec.json.Encoder()

# OpenAI has no name for it: `reasoning_content` is DeepSeek's, `reasoning` that of newer vLLM.
_THOUGHT = b',"delta":{"reasoning_content":"'
THOUGHT_TWICE = b'","reasoning":"'
"""What stands between the two times that a thought is told."""
_CALL = b',"delta":{"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]}'
_ARGUMENTS = b',"delta":{"tool_calls":[{"index":%d,"function":{"arguments":"%b"}}]}'


@dataclass(frozen=True, slots=True)
class Chunks:
    """The parts of one stream's events; `chat_chunks` and `completion_chunks` make them."""

    chat: bool
    head: bytes
    text_open: bytes
    text_close: bytes
    no_text: bytes
    role: bytes
    """The first event of a choice tells the role; b"" where the protocol has none."""
    tail: bytes
    functions: bool = False
    """Whether a tool call is told as a function call, as it was before there were tools."""

    def before(self, index: int) -> bytes:
        """Return what precedes the text of every event of a choice."""
        return self.head + b'[{"index":%d' % index + self.text_open

    def before_thought(self, index: int) -> bytes:
        """Return what precedes the thought of an event of a choice; `after` follows it."""
        return self.head + b'[{"index":%d' % index + _THOUGHT

    @property
    def after(self) -> bytes:
        """Return what follows the text of an event that carries nothing else."""
        return self.text_close + b',"logprobs":null,"finish_reason":null' + self.tail

    def first(self, index: int) -> bytes:
        """Return the event that begins a choice; empty where the protocol has none."""
        if not self.role:
            return b""
        return self.head + b'[{"index":%d' % index + self.role + b',"logprobs":null,"finish_reason":null' + self.tail

    def scored(self, index: int, text: bytes, logprobs: bytes) -> bytes:
        """Return an event with log probabilities."""
        return (
            self.before(index)
            + text
            + self.text_close
            + b',"logprobs":'
            + logprobs
            + b',"finish_reason":null'
            + self.tail
        )

    def piece(self, index: int, piece: Piece, logprobs: bytes = b"null") -> bytes:
        """Return an event with one piece of what was read."""
        match piece:
            case Content(text):
                return self.scored(index, escape(text), logprobs)
            case Reasoning(text):
                thought = escape(text)
                delta = _THOUGHT + thought + THOUGHT_TWICE + thought + b'"}'
            case ToolCall(_, _, name) if self.functions:
                delta = b',"delta":{"function_call":{"name":%b,"arguments":""}}' % _JSON.encode(name)
            case ToolArguments(_, fragment) if self.functions:
                delta = b',"delta":{"function_call":{"arguments":"%b"}}' % escape(fragment)
            case ToolCall(call, call_id, name):
                delta = _CALL % (call, _JSON.encode(call_id), _JSON.encode(name))
            case ToolArguments(call, fragment):
                delta = _ARGUMENTS % (call, escape(fragment))
        head = self.head + b'[{"index":%d' % index
        return head + delta + b',"logprobs":' + logprobs + b',"finish_reason":null' + self.tail

    def last(self, index: int, finish: str, stop_reason: str | int | None) -> bytes:
        """Return the event that ends a choice."""
        reason = b"" if stop_reason is None else b',"stop_reason":' + _JSON.encode(stop_reason)
        return (
            self.head
            + b'[{"index":%d' % index
            + self.no_text
            + b',"logprobs":null,"finish_reason":'
            + _JSON.encode(finish)
            + reason
            + self.tail
        )

    def usage(self, usage: msgspec.Struct) -> bytes:
        """Return the event that counts the tokens, after every choice has ended."""
        return self.head + b'[],"usage":' + _JSON.encode(usage) + b"}\n\n"


def chat_chunks(
    id: str,  # noqa: A002  the field's name
    created: int,
    model: str,
    *,
    with_usage: bool,
    functions: bool = False,
) -> Chunks:
    """Return the parts of chat.completion.chunk events."""
    return Chunks(
        chat=True,
        head=_head(id, "chat.completion.chunk", created, model),
        text_open=b',"delta":{"content":"',
        text_close=b'"}',
        no_text=b',"delta":{}',
        role=b',"delta":{"role":"assistant","content":""}',
        tail=_tail(with_usage=with_usage),
        functions=functions,
    )


def completion_chunks(id: str, created: int, model: str, *, with_usage: bool) -> Chunks:  # noqa: A002  likewise
    """Return the parts of text_completion events."""
    return Chunks(
        chat=False,
        head=_head(id, "text_completion", created, model),
        text_open=b',"text":"',
        text_close=b'"',
        no_text=b',"text":""',
        role=b"",
        tail=_tail(with_usage=with_usage),
    )


def _head(id: str, kind: str, created: int, model: str) -> bytes:  # noqa: A002  likewise
    return b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":' % (
        _JSON.encode(id),
        kind.encode(),
        created,
        _JSON.encode(model),
    )


def _tail(*, with_usage: bool) -> bytes:
    # OpenAI: with include_usage every event but the last has a usage of null.
    return b'}],"usage":null}\n\n' if with_usage else b"}]}\n\n"


def error_event(error: msgspec.Struct) -> bytes:
    """Return the event that ends a stream which failed; no [DONE] follows it."""
    return b"data: " + _JSON.encode(error) + b"\n\n"
