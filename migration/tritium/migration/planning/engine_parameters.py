"""What becomes of the parameters of TensorRT-LLM's models when one model with a checkpoint takes their place.

Each is an argument of model.json, or is told with the reason why it is none; `${...}` never filled in is unset.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tritium.migration.text.words import PLACEHOLDER

Argument = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Carried:
    """A parameter that goes on as an argument of model.json."""

    parameter: str
    argument: str
    value: Argument


@dataclass(frozen=True, slots=True)
class Dropped:
    """A parameter that does not, and why."""

    parameter: str
    value: str
    reason: str


def _switch(text: str) -> bool | None:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower())


def _chunked(text: str) -> bool | None:
    """Return True where it is asked for; without it the engine decides, for vLLM may not start where it is refused."""
    return _switch(text) or None


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 < share <= 1 else None


def _devices(text: str) -> int | None:
    """Return how many GPUs are listed: one rank of the engine runs on each. One is no argument."""
    devices = [one for one in text.split(",") if one.strip()]
    return len(devices) if len(devices) > 1 else None


_ARGUMENTS: Final[Mapping[str, tuple[str, Callable[[str], Argument | None]]]] = {
    "kv_cache_free_gpu_mem_fraction": ("gpu_memory_utilization", _share),
    "enable_kv_cache_reuse": ("enable_prefix_caching", _switch),
    "enable_chunked_context": ("enable_chunked_prefill", _chunked),
    "gpu_device_ids": ("tensor_parallel_size", _devices),
}
"""Parameters of the engine's model with the argument of model.json for the same thing."""

KEPT: Final = frozenset({"exclude_input_in_output", "checkpoint", "aliases", "surface", "fleet"})
"""What the server reads in config.pbtxt, where it stays."""

_PATHS: Final = "the checkpoint is served in place of compiled engines"
_NO_RANKS: Final = "there are no MPI ranks and no worker programs"
_OWN_CACHE: Final = "attention and KV cache are the checkpoint's and the engine's own"
_TUNING: Final = "it tunes TensorRT-LLM's runtime, and changes no answer"
_LORA: Final = "adapters are loaded by name: multi_lora.json, and max_loras and max_cpu_loras in model.json"
_DRAFT: Final = 'speculation is named anew: "speculative_config" in model.json'

_REASONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("gpt_model_path", "engine_dir", "encoder_model_path", "model_path"), _PATHS),
    **dict.fromkeys(("participant_ids", "num_nodes", "worker_path", "executor_worker_path"), _NO_RANKS),
    **dict.fromkeys(("max_attention_window_size", "sink_token_length", "cross_kv_cache_fraction"), _OWN_CACHE),
    **dict.fromkeys(
        (
            *("lora_cache_optimal_adapter_size", "lora_cache_max_adapter_size", "lora_cache_gpu_memory_fraction"),
            *("lora_cache_host_memory_bytes", "lora_prefetch_dir"),
        ),
        _LORA,
    ),
    **dict.fromkeys(
        (
            *("medusa_choices", "eagle_choices", "decoding_mode", "lookahead_window_size", "lookahead_ngram_size"),
            *("lookahead_verification_set_size", "speculative_decoding_fast_logits", "tensorrt_llm_draft_model_name"),
        ),
        _DRAFT,
    ),
    **dict.fromkeys(
        (
            *("normalize_log_probs", "enable_trt_overlap", "multi_block_mode", "enable_context_fmha_fp32_acc"),
            *("cuda_graph_mode", "cuda_graph_cache_size", "cancellation_check_period_ms", "stats_check_period_ms"),
            *("iter_stats_max_iterations", "request_stats_max_iterations", "recv_poll_period_ms", "logits_datatype"),
            *("FORCE_CPU_ONLY_INPUT_TENSORS", "prompt_embedding_table_data_type", "max_num_tokens"),
        ),
        _TUNING,
    ),
    **dict.fromkeys(("gpt_model_type", "batching_strategy", "batching_type"), "batching is always in flight"),
    "max_tokens_in_paged_kv_cache": (
        'the cache takes what "gpu_memory_utilization" leaves; vLLM bounds it by "num_gpu_blocks_override", which must '
        'hold a whole context ("max_model_len")'
    ),
    "enable_chunked_context": "the engine chunks prompts as it sees fit",
    "gpu_device_ids": "a worker takes one GPU unless it is told otherwise",
    "max_beam_width": "beams are not searched: requests with a beam_width above 1 are refused",
    "batch_scheduler_policy": "requests that no longer fit are preempted and go on, as with max_utilization",
    "max_queue_delay_microseconds": "every step takes in what waits",
    "max_queue_size": "the front's waiting room bounds the queue (docs/fleet.md)",
    "kv_cache_host_memory_bytes": "host memory for KV is given to the worker (docs/kv-tiers.md)",
    "kv_cache_onboard_blocks": "blocks come back from host memory where tiers are used (docs/kv-tiers.md)",
    "gpu_weights_percent": 'weights in host memory are "cpu_offload_gb" in model.json',
    "guided_decoding_backend": "structured outputs are the engine's own, without a backend to choose",
    "xgrammar_tokenizer_info_path": "the engine reads the checkpoint's tokenizer",
    "tokenizer_dir": 'the checkpoint\'s own tokenizer is used; another one is named by "tokenizer" in model.json',
    "tokenizer_type": "the tokenizer tells its type itself",
    "add_special_tokens": "prompts get the special tokens that the checkpoint's tokenizer adds",
    "skip_special_tokens": "special tokens are left out of answers",
    "accumulate_tokens": "each response of a stream is what its step added",
    "tensorrt_llm_model_name": "the model called is this one",
    "multimodal_encoders_name": "the engine runs encoders within the model",
}


def fates(parameters: Mapping[str, str]) -> Iterator[Carried | Dropped]:
    """Say what becomes of a model's parameters; those the server reads itself, and unset ones, are passed over."""
    for name, value in parameters.items():
        text = value.strip()
        if not text or PLACEHOLDER.search(text) or name in KEPT:
            continue
        yield _one(name, text)


def _one(name: str, text: str) -> Carried | Dropped:
    argument, convert = _ARGUMENTS.get(name, ("", _nothing))
    value = convert(text)
    if value is not None:
        return Carried(name, argument, value)
    return Dropped(
        name, text, _REASONS.get(name, f"it is no value of {name}" if argument else "no counterpart is known")
    )


def _nothing(_: str) -> None:
    return None
