"""What a response is before the model said anything: checked, and with what its request asked for."""

import random
import time

import msgspec

from tritium.llm.errors import FieldRefused
from tritium.openai.order import Order
from tritium.openai.responses_api.items import InputItem
from tritium.openai.responses_api.schema import ResponseObject, ResponsesRequest, TextConfig

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
    "item_reference": "ref",
}


def check(call: ResponsesRequest) -> None:
    """Refuse what cannot go together.

    Raises:
        FieldRefused: naming the field.
    """
    if call.max_output_tokens is not None and call.max_output_tokens < 1:
        raise FieldRefused("max_output_tokens", f"max_output_tokens must be at least 1, got {call.max_output_tokens}")
    if not call.input and call.previous_response_id is None:
        raise FieldRefused("input", "input must hold a text or at least one item")
    if call.background and call.store is False:
        raise FieldRefused("store", "background needs store: nobody could read the response otherwise")
    if call.background and call.stream:
        raise FieldRefused("stream", "background does not go with stream: read the response when it is completed")


def open_response(call: ResponsesRequest, order: Order) -> ResponseObject:
    """Return the response that is to be written."""
    sampling = order.sampling.engine
    return ResponseObject(
        id=f"resp_{_random_id()}",
        created_at=int(time.time()),
        model=order.served.name,
        status="in_progress",
        instructions=call.instructions,
        previous_response_id=call.previous_response_id,
        store=call.store is not False,
        background=bool(call.background),
        max_output_tokens=call.max_output_tokens,
        temperature=sampling.get("temperature", 1.0),
        top_p=sampling.get("top_p", 1.0),
        tools=call.tools or [],
        tool_choice=call.tool_choice or "auto",
        parallel_tool_calls=call.parallel_tool_calls is not False,
        text=call.text or TextConfig(),
        reasoning=call.reasoning,
        top_logprobs=call.top_logprobs or 0,
        truncation=call.truncation or "disabled",
        metadata=call.metadata or {},
        user=call.user,
        safety_identifier=call.safety_identifier,
        prompt_cache_key=call.prompt_cache_key,
        prompt_cache_retention=call.prompt_cache_retention,
        max_tool_calls=call.max_tool_calls,
    )


def name_items(items: list[InputItem]) -> list[InputItem]:
    """Return the items with an id for each that the client gave none."""
    return [item if item.id else msgspec.structs.replace(item, id=f"{_prefix(item)}_{_random_id()}") for item in items]


def _prefix(item: InputItem) -> str:
    return _PREFIXES[str(item.__struct_config__.tag)]


def _random_id() -> str:
    # Whoever has the id of a response can continue it: it must not be guessed.
    return f"{random.SystemRandom().getrandbits(128):032x}"
