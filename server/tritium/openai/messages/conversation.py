"""From Anthropic's request to the chat that a model is asked: roles, blocks, tools and their results.

system, blocks of a turn -> messages as chat templates know them; a tool's result becomes a message of its own
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tritium.llm.errors import FieldRefused
from tritium.openai.messages.schema import (
    Block,
    CountRequest,
    DocumentBlock,
    ImageBlock,
    InputMessage,
    MessagesRequest,
    RedactedThinkingBlock,
    Source,
    TextBlock,
    ThinkingBlock,
    ToolDefinition,
    ToolResultBlock,
    ToolUseBlock,
)
from tritium.openai.schema import ChatRequest, JsonSchema, ResponseFormat
from tritium.openai.wording import wording

ChatMessage = dict[str, Any]

_BILLING = "x-anthropic-billing-header"
"""Begins a system block in which Anthropic's coding client counts its requests: it would make every prompt new."""
_EFFORTS = {"xhigh": "high", "max": "high"}
"""Templates know low, medium and high."""


WORDS = wording(
    {
        r"response_format(?:\.json_schema)?": "output_config.format",
        "reasoning_effort": "output_config.effort",
        "^stop": "stop_sequences",
        r"(tools\[\d+\])\.function\.parameters": r"\1.input_schema",
        r"(tools\[\d+\])\.function": r"\1",
    }
)
"""What Anthropic's messages call the fields of a chat."""


def chat_of(call: CountRequest) -> ChatRequest:
    """Return the chat that a request asks for.

    Raises:
        FieldRefused: it asks for what only Anthropic's own service has.
    """
    messages = [*_system(call.system), *(m for i, turn in enumerate(call.messages) for m in _turn(turn, i))]
    chat = ChatRequest(model=call.model, messages=messages)
    chat.continue_final_message = (bool(call.messages) and call.messages[-1].role == "assistant") or None
    chat.chat_template_kwargs = _variables(call)
    _set_tools(chat, call)
    if call.output_config is not None:
        effort = call.output_config.effort
        chat.reasoning_effort = _EFFORTS.get(effort, effort) if effort else None
        if call.output_config.format is not None:
            schema = JsonSchema(name="answer", schema=call.output_config.format.schema)
            chat.response_format = ResponseFormat(type="json_schema", json_schema=schema)
    if isinstance(call, MessagesRequest):
        chat.max_tokens = call.max_tokens
        chat.temperature, chat.top_p, chat.top_k = call.temperature, call.top_p, call.top_k
        chat.stop = call.stop_sequences or None
        chat.cache_salt = call.cache_salt
        chat.user = call.metadata.user_id if call.metadata is not None else None
    return chat


def _system(system: str | Sequence[TextBlock] | None) -> list[ChatMessage]:
    texts = [system] if isinstance(system, str) else [block.text for block in system or ()]
    text = "\n".join(t for t in texts if t and not t.startswith(_BILLING))
    return [{"role": "system", "content": text}] if text else []


def _turn(turn: InputMessage, place: int) -> Iterator[ChatMessage]:
    """Yield the messages of one turn: the results of tools, each its own, and what else was said."""
    if isinstance(turn.content, str):
        yield {"role": turn.role, "content": turn.content}
        return
    if turn.role == "assistant":
        yield _assistant(turn.content, place)
        return
    parts: list[dict[str, Any]] = []
    for i, block in enumerate(turn.content):
        where = f"messages[{place}].content[{i}]"
        if isinstance(block, ToolResultBlock):
            if parts:
                yield {"role": turn.role, "content": _plain(parts)}
                parts = []
            yield _result(block, where)
        elif isinstance(block, TextBlock) and turn.role == "system" and block.text.startswith(_BILLING):
            continue
        else:
            parts.append(_part(block, where))
    if parts:
        yield {"role": turn.role, "content": _plain(parts)}


def _assistant(blocks: Sequence[Block], place: int) -> ChatMessage:
    message: ChatMessage = {"role": "assistant", "content": None}
    said = [_part(b, f"messages[{place}].content[{i}]") for i, b in enumerate(blocks) if not isinstance(b, _THOUGHT)]
    calls = [block for block in blocks if isinstance(block, ToolUseBlock)]
    texts = [part for part in said if part["type"] != "tool_use"]
    if texts:
        message["content"] = _plain(texts)
    if thought := "".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock)):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": msgspec.json.encode(call.input).decode()},
            }
            for call in calls
        ]
    elif not texts:
        message["content"] = ""
    return message


_THOUGHT = (ThinkingBlock, RedactedThinkingBlock, ToolUseBlock)


def _result(block: ToolResultBlock, where: str) -> ChatMessage:
    if block.content is None or isinstance(block.content, str):
        content: Any = block.content or ""
    else:
        content = _plain([_part(part, f"{where}.content[{i}]") for i, part in enumerate(block.content)])
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": content}


def _plain(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return parts as one text where they are only text."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(block: Block, where: str) -> dict[str, Any]:
    """Return a block as a content part of a chat."""
    match block:
        case TextBlock(text):
            return {"type": "text", "text": text}
        case ImageBlock(source):
            return {"type": "image_url", "image_url": {"url": _url(source, where)}}
        case DocumentBlock(source, title):
            if source.type != "text":
                raise FieldRefused(where, f"{where} is a document of type {source.type!r}: only plain text is taken")
            return {"type": "text", "text": f"{title}\n\n{source.data}" if title else source.data}
    kind = type(block).__struct_config__.tag
    raise FieldRefused(where, f"{where} is of type {kind!r}, which a message of this role does not have")


def _url(source: Source, where: str) -> str:
    if source.type == "url" and source.url:
        return source.url
    if source.type == "base64" and source.media_type and source.data:
        return f"data:{source.media_type};base64,{source.data}"
    raise FieldRefused(f"{where}.source", f"{where}.source needs type base64 with media_type and data, or url with url")


def _set_tools(chat: ChatRequest, call: CountRequest) -> None:
    if call.tools:
        chat.tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(call.tools)]
    choice = call.tool_choice
    if choice is None:
        return
    if choice.disable_parallel_tool_use:
        chat.parallel_tool_calls = False
    if choice.type == "tool":
        if not choice.name:
            raise FieldRefused("tool_choice.name", "tool_choice of type tool needs the tool's name")
        chat.tool_choice = {"type": "function", "function": {"name": choice.name}}
    else:
        chat.tool_choice = "required" if choice.type == "any" else choice.type


def _tool(tool: ToolDefinition, where: str) -> dict[str, Any]:
    if tool.type not in (None, "custom"):
        raise FieldRefused(
            f"{where}.type", f"{where} is of type {tool.type!r}, which runs at Anthropic: only custom tools are served"
        )
    if tool.input_schema is None:
        raise FieldRefused(f"{where}.input_schema", f"{where} needs an input_schema")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _variables(call: CountRequest) -> dict[str, Any] | None:
    """Return the template's variables; families call the switch of thinking by two names."""
    variables = dict(call.chat_template_kwargs or {})
    if call.thinking is not None:
        thinks = call.thinking.type != "disabled"
        variables = {"enable_thinking": thinks, "thinking": thinks} | variables
    return variables or None
