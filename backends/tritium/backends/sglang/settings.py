"""From a model's folder and model.json to SGLang's ServerArgs. Pure: the caller starts the engine.

Arguments pass through by SGLang's own names; those of vLLM that have a counterpart are translated, so that the
model.json of a vLLM model serves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import msgspec

from tritium.backends.engine import LORA_MODULES, EngineSource, Role
from tritium.core.errors import InvalidArgument

FROM_VLLM = {
    "block_size": "page_size",
    "gpu_memory_utilization": "mem_fraction_static",
    "data_parallel_size": "dp_size",
    "enforce_eager": "disable_cuda_graph",
    "hf_overrides": "json_model_override_args",
    "max_loras": "max_loras_per_batch",
    "max_model_len": "context_length",
    "max_num_batched_tokens": "chunked_prefill_size",
    "max_num_seqs": "max_running_requests",
    "model": "model_path",
    "pipeline_parallel_size": "pp_size",
    "seed": "random_seed",
    "tensor_parallel_size": "tp_size",
    "tokenizer": "tokenizer_path",
}
"""vLLM's arguments by name, with SGLang's for the same thing."""

MEANINGLESS = {
    "disable_log_requests": "SGLang logs requests only when log_requests asks for it",
    "disable_log_stats": "SGLang's metrics are asked for by enable_metrics",
    "generation_config": "the front reads it",
    "num_gpu_blocks_override": "SGLang takes max_total_tokens, in tokens",
    "override_generation_config": "the front reads it",
    "swap_space": "SGLang has hierarchical caches instead",
}
"""vLLM's arguments that have no counterpart and change no answer, with what to say of each."""

_MODES = {Role.AGGREGATED: "null", Role.PREFILL: "prefill", Role.DECODE: "decode"}


@dataclass(frozen=True, slots=True)
class SglangSettings:
    """`arguments` are ServerArgs by name."""

    arguments: dict[str, Any]
    loras: Mapping[str, str]
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def heeds_priority(self) -> bool:
        """Tell whether requests may carry a priority: without the setting SGLang ignores it, or refuses it."""
        return bool(self.arguments.get("enable_priority_scheduling"))


def settings_for(
    source: EngineSource, *, known: Sequence[str], events_endpoint: str, replay_endpoint: str, bootstrap_port: int
) -> SglangSettings:
    """Return what SGLang must be given; `known` are the names of its ServerArgs.

    Raises:
        InvalidArgument: an argument that neither SGLang nor the translation has, or one twice.
    """
    given = dict(source.arguments)
    loras = dict(given.pop(LORA_MODULES, {}))
    given.pop("model", None)
    arguments, notes = _translate(given, known)
    arguments["model_path"] = str(source.folder)
    # The front makes text of tokens; SGLang keeps its own tokenizer, which guided decoding needs.
    arguments["incremental_streaming_output"] = True
    arguments.setdefault("log_level", "warning")
    if arguments.get("enable_priority_scheduling"):
        arguments.setdefault("schedule_low_priority_values_first", True)
    if loras:
        arguments.setdefault("enable_lora", True)
        arguments["lora_paths"] = loras
    if not arguments.get("disable_radix_cache") and arguments.get("dp_size", 1) == 1:
        config = {
            "publisher": "zmq",
            "endpoint": events_endpoint,
            "replay_endpoint": replay_endpoint,
            "format": "dynamo",
        }
        arguments.setdefault("kv_events_config", msgspec.json.encode(config).decode())
    elif arguments.get("dp_size", 1) > 1:
        notes.append("dp_size: KV events are not read of several replicas in one engine; let the fleet have workers")
    if source.role is not Role.AGGREGATED:
        arguments["disaggregation_mode"] = _MODES[source.role]
        arguments.setdefault("disaggregation_bootstrap_port", bootstrap_port)
        arguments.setdefault("disaggregation_transfer_backend", "nixl")
    return SglangSettings(arguments, loras, tuple(notes))


def _translate(given: Mapping[str, Any], known: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    arguments: dict[str, Any] = {}
    notes = []
    for name, value in given.items():
        if name in known:
            ours, worth = name, value
        elif name == "enable_prefix_caching":
            ours, worth = "disable_radix_cache", not value
        elif name in FROM_VLLM:
            ours, worth = FROM_VLLM[name], value
        elif name in MEANINGLESS:
            notes.append(f"model.json: '{name}' is ignored: {MEANINGLESS[name]}")
            continue
        else:
            close = get_close_matches(name, [*known, *FROM_VLLM], n=1)
            raise InvalidArgument(
                f"model.json: the installed SGLang has no argument '{name}'"
                + (f"; did you mean {close[0]}?" if close else "")
            )
        if ours in arguments:
            raise InvalidArgument(f"model.json: '{name}' and another argument both stand for SGLang's '{ours}'")
        arguments[ours] = worth
    if isinstance(arguments.get("json_model_override_args"), dict):
        arguments["json_model_override_args"] = msgspec.json.encode(arguments["json_model_override_args"]).decode()
    return arguments, notes
