"""Prompts that vLLM turns into numbers: which tasks a loaded model has, and how one of ours becomes one of its own."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tritium.backends.engine import GENERATE, POOLING, Pool, Pooled
from tritium.core.errors import InvalidArgument

if TYPE_CHECKING:
    from vllm import PoolingParams, PoolingRequestOutput

_INTERNAL = frozenset({"task", "requires_token_ids", "late_interaction_params", "extra_kwargs", "output_kind"})
"""Fields of PoolingParams that are vLLM's own business, or ours."""


def tasks_of(supported: Sequence[str], score_type: str) -> tuple[str, ...]:
    """Return our tasks of a model, from vLLM's and from how it would score a pair ("cross-encoder": by one number)."""
    tasks = [task for task in (GENERATE, *POOLING) if task in supported]
    if "classify" in supported and score_type == "cross-encoder":
        tasks.append("score")
    return tuple(tasks)


def pooling_params(request: Pool) -> "PoolingParams":
    """Make vLLM's pooling parameters.

    Raises:
        InvalidArgument: a field that vLLM does not have or will not take.
    """
    from vllm import PoolingParams  # noqa: PLC0415  takes seconds, and this module is read without vLLM too

    known = [name for name in PoolingParams.__struct_fields__ if name not in _INTERNAL]
    for name in request.parameters:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise InvalidArgument(
                f"vLLM has no pooling parameter '{name}'" + (f"; did you mean {close[0]}?" if close else "")
            )
    fields: dict[str, Any] = dict(request.parameters)
    if request.task == "score":
        # vLLM scores a pair by the one class of a cross-encoder; where the second text begins makes its segments.
        fields["task"] = "classify"
        if request.second_at:
            fields["extra_kwargs"] = {"compressed_token_type_ids": request.second_at}
    else:
        fields["task"] = request.task
    return PoolingParams(**fields)


def pooled_of(id: int, output: "PoolingRequestOutput[Any]") -> Pooled:  # noqa: A002  the engine contract's name
    """Make our answer of vLLM's."""
    numbers = output.outputs.data.float().contiguous().numpy()
    if numbers.ndim == 0:
        numbers = numbers.reshape(1)
    return Pooled(id, list(numbers.shape), numbers.astype("<f4", copy=False).tobytes(), output.num_cached_tokens or 0)
