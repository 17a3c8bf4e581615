"""From a model's folder and model.json to the arguments of TensorRT-LLM's LLM. Pure: the caller makes it.

Arguments pass through by TensorRT-LLM's own names, as Triton's model.yaml has them; those of vLLM that have a
counterpart are translated, so that the model.json of a vLLM model serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tritium.backends.engine import LORA_MODULES, EngineSource, Role
from tritium.core.errors import InvalidArgument

FROM_VLLM = {
    "max_model_len": "max_seq_len",
    "max_num_batched_tokens": "max_num_tokens",
    "max_num_seqs": "max_batch_size",
}
"""vLLM's arguments by name, with TensorRT-LLM's for the same thing."""

CACHE_FROM_VLLM = {
    "block_size": "tokens_per_block",
    "enable_prefix_caching": "enable_block_reuse",
    "gpu_memory_utilization": "free_gpu_memory_fraction",
    "kv_cache_dtype": "dtype",
}
"""The same of what belongs into kv_cache_config."""

MEANINGLESS = {
    "disable_log_requests": "TensorRT-LLM logs no requests",
    "disable_log_stats": "TensorRT-LLM's statistics are asked for by enable_iter_perf_stats",
    "enforce_eager": "TensorRT-LLM takes cuda_graph_config",
    "generation_config": "the front reads it",
    "num_gpu_blocks_override": "TensorRT-LLM takes kv_cache_config.max_tokens, in tokens",
    "override_generation_config": "the front reads it",
    "seed": "TensorRT-LLM takes a seed with each request",
    "swap_space": "TensorRT-LLM takes kv_cache_config.host_cache_size, in bytes",
}
"""vLLM's arguments that have no counterpart and change no answer, with what to say of each."""

TRITON_CONFIG = "triton_config"
"""The part of model.yaml that is Triton's and not TensorRT-LLM's."""

EVENT_BUFFER = 16_384


@dataclass(frozen=True, slots=True)
class TensorRtLlmSettings:
    """`arguments` are those of LLM by name, its configurations as mappings."""

    arguments: dict[str, Any]
    loras: Mapping[str, str]
    notes: tuple[str, ...]


def settings_for(source: EngineSource, *, known: Sequence[str]) -> TensorRtLlmSettings:
    """Return what TensorRT-LLM must be given; `known` are the names of its LLM's arguments.

    Raises:
        InvalidArgument: an argument that neither TensorRT-LLM nor the translation has, or one twice.
    """
    given = dict(source.arguments)
    loras = dict(given.pop(LORA_MODULES, {}))
    for name in ("model", TRITON_CONFIG):
        given.pop(name, None)
    arguments, notes = _translate(given, known)
    arguments["model"] = str(source.folder)
    cache = arguments.setdefault("kv_cache_config", {})
    if isinstance(cache, dict) and cache.get("enable_block_reuse", True):
        cache.setdefault("event_buffer_max_size", EVENT_BUFFER)
    # Without it there is no structured output, and with it none costs anything that asks for none.
    arguments.setdefault("guided_decoding_backend", "xgrammar")
    arguments.setdefault("enable_iter_perf_stats", True)
    if loras:
        arguments.setdefault("enable_lora", True)
    if source.moves_kv:
        arguments.setdefault("cache_transceiver_config", {"backend": "DEFAULT"})
    if source.role is Role.PREFILL:
        # The overlap scheduler would begin a step for sequences that only hand their KV over.
        arguments.setdefault("disable_overlap_scheduler", True)
    return TensorRtLlmSettings(arguments, loras, tuple(notes))


def _translate(given: Mapping[str, Any], known: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    arguments: dict[str, Any] = {}
    cache: dict[str, Any] = {}
    notes = []
    for name, value in given.items():
        target, ours = arguments, name
        if name in FROM_VLLM and name not in known:
            ours = FROM_VLLM[name]
        elif name in CACHE_FROM_VLLM and name not in known:
            target, ours = cache, CACHE_FROM_VLLM[name]
        elif name in MEANINGLESS and name not in known:
            notes.append(f"model.json: '{name}' is ignored: {MEANINGLESS[name]}")
            continue
        elif name not in known:
            close = get_close_matches(name, [*known, *FROM_VLLM, *CACHE_FROM_VLLM], n=1)
            raise InvalidArgument(
                f"model.json: the installed TensorRT-LLM has no argument '{name}'"
                + (f"; did you mean {close[0]}?" if close else "")
            )
        if ours in target:
            raise InvalidArgument(f"model.json: '{name}' and another argument both stand for TensorRT-LLM's '{ours}'")
        target[ours] = dict(value) if isinstance(value, Mapping) else value
    if cache:
        arguments["kv_cache_config"] = cache | arguments.get("kv_cache_config", {})
    return arguments, notes
