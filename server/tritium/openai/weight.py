"""How much a request would have sent to workers: its sampling goes with each of its completions."""

from collections.abc import Mapping
from typing import Any

import msgspec

from tritium.llm.errors import FieldRefused
from tritium.openai.order import Order

_MOST_BYTES = 64 << 20


def check_weight(order: Order, body_bytes: int) -> None:
    """Refuse sampling that would occupy server and workers for seconds, many times over; a small body never does.

    Raises:
        FieldRefused: its size times the number of completions is beyond all use.
    """
    completions = len(order.prompts) * order.sampling.n
    if body_bytes * completions <= _MOST_BYTES:
        return
    size = _size(order.sampling.engine) + len(order.cache_salt)
    if size * completions > _MOST_BYTES:
        raise FieldRefused(
            "n" if order.sampling.n > 1 else order.prompt_field,
            f"{completions} completions with {size} bytes of sampling fields each are more than a request may have",
            hint="shorten logit_bias, bad_words, lists of tokens or extra arguments, or ask for fewer completions",
        )


def _size(sampling: Mapping[str, Any]) -> int:
    try:
        return len(msgspec.msgpack.encode(sampling))
    except (OverflowError, TypeError, ValueError):
        return 0  # What cannot be sent at all is refused where it would be.
