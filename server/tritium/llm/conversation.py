"""Messages as clients send them to messages as chat templates want them.

By vLLM's rules (vllm/renderers/chat_utils.py): content becomes a string or a list of parts, as the template takes it;
the arguments of earlier tool calls, which OpenAI writes as JSON in a string, become objects; what was sent as null is
left out.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tritium.llm.content_format import ContentFormat
from tritium.llm.errors import FieldRefused
from tritium.llm.template import Message

_TEXT = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal", "thinking": "thinking"}
"""The part's field that is its text, by the type of the part."""
_SLICE = 1024
"""Messages that are looked at before others have their turn: 1 ms, or a few where they have parts."""
_REASONING = ("reasoning", "reasoning_content")
"""Two names for the same: vLLM's of today, and that of DeepSeek and most templates."""

MediaKind = Literal["image", "audio", "video"]

MEDIA: Mapping[str, MediaKind] = {
    "image_url": "image",
    "input_image": "image",
    "audio_url": "audio",
    "input_audio": "audio",
    "video_url": "video",
}
"""What a part is a piece of, by its type."""

TakeMedia = Callable[[dict[str, Any], str], None]
"""Takes a part that is no text, and where in the request it stands.

Raises:
    FieldRefused: the model takes no such part.
"""


def refuse_media(part: dict[str, Any], where: str) -> None:
    """Refuse any part that is no text."""
    raise FieldRefused(where, f"{where} is of type {part.get('type')!r}: only text parts are served")


async def template_messages(
    messages: Sequence[Message], form: ContentFormat, take_media: TakeMedia = refuse_media
) -> list[Message]:
    """Return messages as a template takes them; the client's are left as they are.

    However many there are, others have their turn meanwhile.

    Raises:
        FieldRefused: a message is not as OpenAI's API has it; the field is named.
    """
    if not messages:
        raise FieldRefused("messages", "messages must hold at least one message")
    shown: list[Message] = []
    for start in range(0, len(messages), _SLICE):
        if start:
            await asyncio.sleep(0)
        some = enumerate(messages[start : start + _SLICE], start)
        shown += [_message(message, f"messages[{i}]", form, take_media) for i, message in some]
    return shown


def _message(message: Message, where: str, form: ContentFormat, take_media: TakeMedia) -> Message:
    role = message.get("role")
    if not isinstance(role, str):
        raise FieldRefused(f"{where}.role", f"{where} needs a role: system, user, assistant or tool")
    shown = {key: value for key, value in message.items() if value is not None}
    # Templates written for tools expect a plain string from a tool.
    wanted = ContentFormat.STRING if role == "tool" else form
    shown["content"] = _content(message.get("content"), f"{where}.content", wanted, take_media)
    if role == "assistant":
        reasoning = next((message[name] for name in _REASONING if isinstance(message.get(name), str)), None)
        if reasoning is not None:
            shown.update(dict.fromkeys(_REASONING, reasoning))
        if "tool_calls" in shown:
            calls = _tool_calls(shown.pop("tool_calls"), f"{where}.tool_calls")
            if calls:
                shown["tool_calls"] = calls
    return shown


def _content(content: Any, where: str, form: ContentFormat, take_media: TakeMedia) -> str | list[dict[str, Any]]:
    if content is None or isinstance(content, str):
        if form is ContentFormat.STRING:
            return content or ""
        return [] if content is None else [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise FieldRefused(where, f"{where} must be a string or a list of parts")
    # Most parts are text as it should be, and there may be hundreds of thousands.
    parts = [part if _is_text(part) else _part(part, f"{where}[{i}]", take_media) for i, part in enumerate(content)]
    if form is ContentFormat.OPENAI:
        return parts
    if any(part["type"] != "text" for part in parts):
        raise FieldRefused(
            where,
            f"{where} has parts that are no text, and the model's chat template takes text only",
            hint="a chat template that walks message.content says itself where an image stands",
        )
    return "\n".join([part["text"] for part in parts])


def _is_text(part: Any) -> bool:
    return type(part) is dict and part.get("type") == "text" and type(part.get("text")) is str


def _part(part: Any, where: str, take_media: TakeMedia) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _TEXT:
        field = _TEXT[kind]
        if not isinstance(part.get(field), str):
            raise FieldRefused(f"{where}.{field}", f"{where}.{field} must be a string")
        return part if kind == "text" else {"type": "text", "text": part[field]}
    take_media(part if isinstance(part, dict) else {}, where)
    media = MEDIA.get(str(kind))
    if media is None:
        raise FieldRefused(where, f"{where} is of type {kind!r}, which is no part of a message")
    return {"type": media}


def _tool_calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list):
        raise FieldRefused(where, f"{where} must be a list")
    return [_tool_call(call, f"{where}[{i}]") for i, call in enumerate(calls)]


def _tool_call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or call.get("type", "function") != "function":
        raise FieldRefused(where, f"{where} must be a call of type 'function'")
    return {**call, "function": {**function, "arguments": _arguments(function.get("arguments"))}}


def _arguments(arguments: Any) -> dict[str, Any]:
    """Return the arguments as an object; a model's own broken call, sent back as history, has none."""
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.DecodeError, RecursionError):
            return {}
    return arguments if isinstance(arguments, dict) else {}
