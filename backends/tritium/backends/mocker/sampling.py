"""The sampling fields of a request that mean something to an engine without a model."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec

from tritium.backends.engine import TokenLogprob
from tritium.core.errors import InvalidArgument, Unsupported

_HALF = math.log(0.5)

Count = Annotated[int, msgspec.Meta(ge=0)]
_LOGPROBS = Annotated[int, msgspec.Meta(ge=-1)]

MEANINGLESS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "logit_bias",
        "allowed_token_ids",
        "bad_words",
        "truncate_prompt_tokens",
        "extra_args",
    }
)
"""Fields that choose among what a model thinks likely. They are taken, for clients send them, and change nothing."""


class Sampling(msgspec.Struct, frozen=True):
    """The fields that are heeded, with vLLM's defaults."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = 16
    min_tokens: Count = 0
    ignore_eos: bool = False
    stop_token_ids: list[int] | None = None
    seed: int | None = None
    logprobs: _LOGPROBS | None = None
    prompt_logprobs: _LOGPROBS | None = None


def read_sampling(fields: dict[str, Any]) -> Sampling:
    """Read a request's sampling fields.

    Raises:
        InvalidArgument: a field that is not known, or a value of the wrong type or range.
        Unsupported: an answer of a given form is asked for.
    """
    for name, value in fields.items():
        if name == "structured_outputs":
            if value is not None:
                raise Unsupported(
                    "structured_outputs: the mocker makes up words and follows no grammar",
                    hint="serve the model with vllm to have answers of a given form",
                )
        elif name not in MEANINGLESS and name not in Sampling.__struct_fields__:
            close = get_close_matches(name, MEANINGLESS | set(Sampling.__struct_fields__), n=1)
            raise InvalidArgument(
                f"the mocker has no sampling parameter '{name}'" + (f"; did you mean {close[0]}?" if close else "")
            )
    try:
        return msgspec.convert(fields, Sampling)
    except msgspec.ValidationError as reason:
        raise InvalidArgument(f"sampling parameters: {reason}") from None


def made_up(token: int, others: Sequence[int], count: int) -> list[TokenLogprob]:
    """Make up log probabilities: a half for the token, which is the likeliest, a quarter for the next, and so on."""
    ranked = [token, *(other for other in others[: count + 1] if other != token)][:count]
    return [TokenLogprob(token, _HALF, 1)] + [
        TokenLogprob(other, rank * _HALF, rank) for rank, other in enumerate(ranked, 1)
    ]
