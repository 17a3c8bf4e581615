"""From items to the chat that a model is asked: instructions, what was said, calls and their outputs, in turns."""

from collections.abc import Sequence
from typing import Any

from tritium.llm.errors import FieldRefused
from tritium.openai.responses_api.items import (
    FunctionCallItem,
    FunctionOutputItem,
    InputAudio,
    InputImage,
    InputText,
    Item,
    MessageItem,
    OutputText,
    Part,
    ReasoningItem,
    Refusal,
)
from tritium.openai.responses_api.schema import ResponsesRequest, TextFormat
from tritium.openai.schema import ChatRequest, JsonSchema, ResponseFormat
from tritium.openai.wording import wording

ChatMessage = dict[str, Any]

_LOGPROBS = "message.output_text.logprobs"
SYSTEM_ROLES = ("system", "developer")

_ALIKE = (
    "model",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "logit_bias",
    "structured_outputs",
    "skip_special_tokens",
    "include_stop_str_in_output",
    "chat_template_kwargs",
    "cache_salt",
    "priority",
    "vllm_xargs",
)
"""Fields that a chat completion calls alike."""


WORDS = wording(
    {
        r"response_format\.json_schema": "text.format",
        "response_format": "text.format",
        "max_completion_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        r"(tools\[\d+\])\.function": r"\1",
        r"^messages": "input",
    }
)
"""What responses call the fields of a chat."""


def chat_of(call: ResponsesRequest, messages: list[ChatMessage]) -> ChatRequest:
    """Return the chat that a request asks for, over the messages of its conversation.

    Raises:
        FieldRefused: it asks for what only OpenAI's own service has.
    """
    chat = ChatRequest(messages=messages, **{name: getattr(call, name) for name in _ALIKE})
    chat.max_completion_tokens = call.max_output_tokens
    chat.reasoning_effort = call.reasoning.effort if call.reasoning is not None else None
    if call.text is not None:
        chat.response_format = _format(call.text.format)
    if call.top_logprobs or _LOGPROBS in (call.include or ()):
        chat.logprobs, chat.top_logprobs = True, call.top_logprobs or 0
    if call.tools:
        chat.tools = [_tool(tool, f"tools[{i}]") for i, tool in enumerate(call.tools)]
    _choose(chat, call.tool_choice)
    return chat


def messages_of(instructions: str | None, items: Sequence[Item]) -> list[ChatMessage]:
    """Return the conversation as chat templates know it."""
    messages: list[ChatMessage] = [{"role": "system", "content": instructions}] if instructions else []
    thought = ""
    for item in items:
        match item:
            case ReasoningItem(content=content, summary=summary):
                thought += "".join(part.text for part in (content or summary))
                continue
            case FunctionCallItem():
                _add_call(messages, item, thought)
            case FunctionOutputItem(call_id=call_id, output=output):
                messages.append({"role": "tool", "tool_call_id": call_id, "content": _content(output)})
            case MessageItem(role=role, content=content):
                _add_message(messages, role, _content(content), thought)
        thought = ""
    return messages


def _add_message(messages: list[ChatMessage], role: str, content: Any, thought: str) -> None:
    """Add what was said; system messages at the beginning become one, which is all that most templates take."""
    if role in SYSTEM_ROLES:
        first = messages[0] if len(messages) == 1 and messages[0]["role"] == "system" else None
        if first is not None and isinstance(first["content"], str) and isinstance(content, str):
            first["content"] += f"\n\n{content}"
            return
        role = "system"
    message: ChatMessage = {"role": role, "content": content}
    if thought and role == "assistant":
        message["reasoning_content"] = thought
    messages.append(message)


def _add_call(messages: list[ChatMessage], item: FunctionCallItem, thought: str) -> None:
    """Add a call to the assistant's turn that it belongs to."""
    call = {"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}
    if messages and messages[-1]["role"] == "assistant" and not thought:
        messages[-1].setdefault("tool_calls", []).append(call)
        return
    turn: ChatMessage = {"role": "assistant", "content": None, "tool_calls": [call]}
    if thought:
        turn["reasoning_content"] = thought
    messages.append(turn)


def _content(content: str | Sequence[Part]) -> str | list[dict[str, Any]]:
    """Return content as one text where it is only text."""
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in content]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Part) -> dict[str, Any]:
    match part:
        case InputText(text) | OutputText(text) | Refusal(text):
            return {"type": "text", "text": text}
        case InputImage(image_url=url, detail=detail):
            if url is None:
                raise FieldRefused("input", "input_image needs an image_url: there are no files to be named here")
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case InputAudio(audio):
            return {"type": "input_audio", "input_audio": {"data": audio.data, "format": audio.format}}


def _format(form: TextFormat) -> ResponseFormat | None:
    if form.type == "text":
        return None
    if form.type == "json_object":
        return ResponseFormat(type="json_object")
    if form.schema is None:
        raise FieldRefused("text.format.schema", "text.format of type json_schema needs a schema")
    schema = JsonSchema(form.name or "", form.schema, form.strict, form.description)
    return ResponseFormat(type="json_schema", json_schema=schema)


def _tool(tool: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a function as chat completions have it: its fields one level further down."""
    if tool.get("type") != "function":
        raise FieldRefused(f"{where}.type", f"{where} is of type {tool.get('type')!r}: only functions are served")
    if not isinstance(tool.get("name"), str):
        raise FieldRefused(f"{where}.name", f"{where} needs a name")
    known = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool[key] for key in known if tool.get(key) is not None}}


def _choose(chat: ChatRequest, choice: str | dict[str, Any] | None) -> None:
    if not isinstance(choice, dict):
        chat.tool_choice = choice
        return
    match choice:
        case {"type": "function", "name": str(name)}:
            chat.tool_choice = {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed)}:
            names = {tool.get("name") for tool in allowed if isinstance(tool, dict)}
            chat.tools = [tool for tool in chat.tools or () if tool["function"]["name"] in names]
            chat.tool_choice = mode
        case _:
            raise FieldRefused(
                "tool_choice", "tool_choice must be auto, none, required, a function by name, or allowed_tools"
            )
