"""The requests and answers of Anthropic's Messages API.

Fields that are not listed are ignored: Anthropic's clients send what concerns only its own service, such as
`cache_control` on any block.
"""

from typing import Any, Literal

import msgspec


class TextBlock(msgspec.Struct, tag="text"):
    """Text."""

    text: str


class Source(msgspec.Struct):
    """Where an image or a document is: in `data` as base64 or as it is, or at a URL."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class ImageBlock(msgspec.Struct, tag="image"):
    """An image."""

    source: Source


class DocumentBlock(msgspec.Struct, tag="document"):
    """A document; only plain text is taken."""

    source: Source
    title: str | None = None


class ThinkingBlock(msgspec.Struct, tag="thinking"):
    """What the model thought in an earlier turn."""

    thinking: str
    signature: str = ""


class RedactedThinkingBlock(msgspec.Struct, tag="redacted_thinking"):
    """What a model of Anthropic's thought, sealed; nobody else can read it."""

    data: str = ""


class ToolUseBlock(msgspec.Struct, tag="tool_use"):
    """A tool call of an earlier turn."""

    id: str
    name: str
    input: dict[str, Any] = {}


class ToolResultBlock(msgspec.Struct, tag="tool_result"):
    """What a tool answered."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None


Block = TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock


class InputMessage(msgspec.Struct):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolDefinition(msgspec.Struct):
    """A function that the model may call."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct):
    """Whether a tool is to be called, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """Whether the model is to think first; a budget is not kept."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None


class OutputFormat(msgspec.Struct):
    """A JSON schema that the answer must satisfy."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    """How much effort the answer may take, and its form."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(msgspec.Struct):
    """Whom the request is for."""

    user_id: str | None = None


class CountRequest(msgspec.Struct, kw_only=True):
    """POST /v1/messages/count_tokens."""

    model: str
    messages: list[InputMessage]
    system: str | list[TextBlock] | None = None
    tools: list[ToolDefinition] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Variables for the chat template, as vLLM's server takes them."""


class MessagesRequest(CountRequest, kw_only=True):
    """POST /v1/messages."""

    max_tokens: int
    metadata: Metadata | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    cache_salt: str | None = None
    """Keeps the prompt's blocks apart from others', as in vLLM's server."""


class TokenCount(msgspec.Struct):
    """How many tokens a prompt has."""

    input_tokens: int


class MessageUsage(msgspec.Struct):
    """Tokens as Anthropic counts them: `input_tokens` are those of the prompt that were not found in a cache."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class TextAnswer(msgspec.Struct, tag="text"):
    """Text of the answer."""

    text: str


class ThinkingAnswer(msgspec.Struct, tag="thinking"):
    """What the model thought; nothing is signed here."""

    thinking: str
    signature: str = ""


class ToolUseAnswer(msgspec.Struct, tag="tool_use"):
    """A tool that is to be called."""

    id: str
    name: str
    input: dict[str, Any]


class Message(msgspec.Struct):
    """The answer."""

    id: str
    model: str
    content: list[TextAnswer | ThinkingAnswer | ToolUseAnswer]
    usage: MessageUsage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
