"""The items that a conversation of the Responses API is made of, as clients send them and as answers have them."""

from typing import Any, Literal

import msgspec

from tritium.llm.errors import FieldRefused
from tritium.openai.responses import ChatLogprob

_MOST_ITEMS = 16_384


class InputText(msgspec.Struct, tag="input_text"):
    """Text that the user sent."""

    text: str


class InputImage(msgspec.Struct, tag="input_image"):
    """An image that the user sent; files of OpenAI's are not there to be named."""

    image_url: str | None = None
    file_id: str | None = None
    detail: str | None = None


class AudioData(msgspec.Struct):
    """Sound as base64."""

    data: str
    format: str


class InputAudio(msgspec.Struct, tag="input_audio"):
    """Sound that the user sent."""

    input_audio: AudioData


class OutputText(msgspec.Struct, tag="output_text"):
    """Text that the model wrote."""

    text: str
    annotations: list[Any] = []
    logprobs: list[ChatLogprob] = []


class Refusal(msgspec.Struct, tag="refusal"):
    """What a model said in place of an answer."""

    refusal: str


class SummaryText(msgspec.Struct, tag="summary_text"):
    """A summary of what the model thought."""

    text: str


class ReasoningText(msgspec.Struct, tag="reasoning_text"):
    """What the model thought."""

    text: str


Part = InputText | InputImage | InputAudio | OutputText | Refusal

Status = Literal["in_progress", "completed", "incomplete"]


class MessageItem(msgspec.Struct, tag="message", omit_defaults=True):
    """What somebody said."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    id: str | None = None
    status: Status | None = None


class FunctionCallItem(msgspec.Struct, tag="function_call", omit_defaults=True):
    """A call that the model wants made; `call_id` is what its output refers to."""

    name: str
    call_id: str
    arguments: str
    id: str | None = None
    status: Status | None = None


class FunctionOutputItem(msgspec.Struct, tag="function_call_output", omit_defaults=True):
    """What a function answered."""

    call_id: str
    output: str | list[InputText | InputImage | InputAudio]
    id: str | None = None
    status: Status | None = None


class ReasoningItem(msgspec.Struct, tag="reasoning"):
    """What the model thought."""

    id: str | None = None
    summary: list[SummaryText] = []
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None
    status: Status | None = None


class ItemReference(msgspec.Struct, tag="item_reference"):
    """An item of an earlier response, by its id."""

    id: str


InputItem = MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem | ItemReference
Item = MessageItem | FunctionCallItem | FunctionOutputItem | ReasoningItem
OutputItem = MessageItem | FunctionCallItem | ReasoningItem


def read_items(given: str | list[dict[str, Any]]) -> list[InputItem]:
    """Return the items of a request's `input`; a bare text is what the user says.

    Raises:
        FieldRefused: an item is of no kind that is served, or one of its fields is at fault.
    """
    if isinstance(given, str):
        return [MessageItem("user", given)]
    if len(given) > _MOST_ITEMS:
        raise FieldRefused("input", f"input holds up to {_MOST_ITEMS} items, got {len(given)}", code="invalid_value")
    return [_item(fields, f"input[{i}]") for i, fields in enumerate(given)]


def listed(item: Item) -> Item:
    """Return an item as OpenAI lists it: the text of a message is a part, however it was sent."""
    if not isinstance(item, MessageItem) or not isinstance(item.content, str):
        return item
    assistant = item.role == "assistant"
    part = OutputText(item.content) if assistant else InputText(item.content)
    return MessageItem(item.role, [part], item.id, item.status or "completed")


def _item(fields: dict[str, Any], where: str) -> InputItem:
    # OpenAI lets the type of a message be left out.
    if "type" not in fields and "role" in fields:
        fields = {**fields, "type": "message"}
    try:
        item: InputItem = msgspec.convert(fields, InputItem)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        field = where + path.removesuffix("`")
        raise FieldRefused(field, f"Invalid value for '{field}': {what}.", code="invalid_value") from None
    return item
