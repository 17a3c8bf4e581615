"""How much of a conversation a prompt holds: all of it, or with `truncation: auto` the latest turns that fit."""

from collections.abc import Sequence

from tritium.llm.errors import ContextExceeded
from tritium.llm.models import LanguageModels
from tritium.llm.sampling import budget
from tritium.openai.chat import chat_order
from tritium.openai.media.policy import MediaPolicy
from tritium.openai.order import Order
from tritium.openai.responses_api.conversation import SYSTEM_ROLES, WORDS, chat_of, messages_of
from tritium.openai.responses_api.items import Item, MessageItem
from tritium.openai.responses_api.schema import ResponsesRequest


async def order_within(
    call: ResponsesRequest, items: Sequence[Item], models: LanguageModels, policy: MediaPolicy
) -> Order:
    """Return what is asked of the model for a conversation.

    Raises:
        ContextExceeded: it does not fit, nor does its last turn alone where older ones may be left out.
        InferenceError: the model is unknown or not ready, or a field is refused.
    """
    try:
        return await _order(call, items, models, policy)
    except ContextExceeded:
        starts = _turns(items)
        if call.truncation != "auto" or len(starts) < 2:
            raise
    fitting = await _order(call, _since(items, starts[-1]), models, policy)
    # Fewer turns never need more room, so the oldest that fits is found by halving.
    low, high = 1, len(starts) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            fitting, high = await _order(call, _since(items, starts[middle]), models, policy), middle
        except ContextExceeded:
            low = middle + 1
    return fitting


async def _order(call: ResponsesRequest, items: Sequence[Item], models: LanguageModels, policy: MediaPolicy) -> Order:
    order = await chat_order(chat_of(call, messages_of(call.instructions, items)), models, policy, WORDS)
    context_tokens = order.served.model.fleet.info.context_tokens
    budget(order.sampling, len(order.prompts[0].token_ids), context_tokens, "input")
    return order


def _turns(items: Sequence[Item]) -> list[int]:
    """Return where each turn begins: with what the user says."""
    return [i for i, item in enumerate(items) if isinstance(item, MessageItem) and item.role == "user"]


def _since(items: Sequence[Item], start: int) -> list[Item]:
    """Return the items from there on, with the system's from before."""
    kept = [item for item in items[:start] if isinstance(item, MessageItem) and item.role in SYSTEM_ROLES]
    return [*kept, *items[start:]]
