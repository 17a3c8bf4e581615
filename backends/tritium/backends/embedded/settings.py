"""The engine arguments of a model.json that mean something here; the rest is vLLM's and left alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from tritium.backends.embedded.architecture import Architecture
from tritium.core.errors import InvalidArgument

_CACHE_BYTES = 256 << 20
_LARGEST_CACHE_BYTES = 8 << 30
_FULL_CONTEXTS = 32

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Arguments(msgspec.Struct, frozen=True):
    """vLLM's engine arguments by name, and `kv_transport`: "nixl", "shm", or "" for NIXL where it is installed."""

    max_model_len: Positive | None = None
    block_size: Positive | None = None
    num_gpu_blocks_override: Positive | None = None
    kv_cache_memory_bytes: Positive | None = None
    max_num_seqs: Positive | None = None
    max_num_batched_tokens: Positive | None = None
    enable_prefix_caching: bool | None = None
    seed: int | None = None
    kv_transport: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the engine runs with."""

    context: int
    block_tokens: int
    blocks: int
    max_sequences: int
    step_tokens: int
    share_prefixes: bool
    seed: int | None
    transport: str


def notes_on(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what of the arguments the engine does not do, where a reader of model.json would expect it."""
    notes = []
    if given.get("dtype", "auto") not in {"auto", "float32", "float"}:
        notes.append(f"dtype {given['dtype']}: the embedded engine computes in float32")
    if given.get("enable_lora"):
        notes.append("enable_lora: the embedded engine has no adapters and refuses requests that name one")
    if given.get("kv_tiers"):
        notes.append("kv_tiers: the embedded engine keeps nothing below its cache; vLLM does")
    notes += [
        f"{name} {given[name]}: the embedded engine runs on one core"
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
        if given.get(name, 1) != 1
    ]
    return tuple(notes)


def read_settings(given: Mapping[str, Any], architecture: Architecture) -> Settings:
    """Read the arguments and fill in what they leave open.

    Raises:
        InvalidArgument: a value is of the wrong type or range, or the cache cannot hold one context.
    """
    try:
        arguments = msgspec.convert(dict(given), Arguments)
    except msgspec.ValidationError as reason:
        raise InvalidArgument(f"engine arguments: {reason}") from None
    context = arguments.max_model_len or architecture.positions
    if context > architecture.positions:
        raise InvalidArgument(
            f"max_model_len {context} is more than the {architecture.positions} positions of the model"
        )
    block_tokens = arguments.block_size or 32
    one_context = -(-context // block_tokens)
    block_bytes = 2 * architecture.layers * block_tokens * architecture.kv_heads * architecture.head_width * 4
    blocks = arguments.num_gpu_blocks_override
    if blocks is None and arguments.kv_cache_memory_bytes is not None:
        blocks = arguments.kv_cache_memory_bytes // block_bytes
    elif blocks is None:
        blocks = max(one_context, min(_FULL_CONTEXTS * one_context, _CACHE_BYTES // block_bytes))
    if blocks < one_context:
        raise InvalidArgument(
            f"a cache of {blocks} blocks does not hold one context of {context} tokens, which takes {one_context}",
            "raise num_gpu_blocks_override or kv_cache_memory_bytes, or lower max_model_len",
        )
    if blocks * block_bytes > _LARGEST_CACHE_BYTES:
        raise InvalidArgument(
            f"{blocks} blocks of {block_tokens} tokens would take {blocks * block_bytes >> 20} MiB of memory",
            "set max_model_len or num_gpu_blocks_override to less",
        )
    return Settings(
        context=context,
        block_tokens=block_tokens,
        blocks=blocks,
        max_sequences=arguments.max_num_seqs or 64,
        # A step of this many tokens takes a few tens of milliseconds on one core: what a decode may have to wait.
        step_tokens=arguments.max_num_batched_tokens or 512,
        share_prefixes=arguments.enable_prefix_caching is not False,
        seed=arguments.seed,
        transport=arguments.kv_transport,
    )
