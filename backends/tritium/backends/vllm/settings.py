"""From a model's folder and model.json to vLLM's engine arguments and the environment its processes need.

Every argument of the installed vLLM passes through; we own no list of them. Pure: the caller applies the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tritium.backends.engine import LORA_MODULES, EngineSource, Role
from tritium.backends.vllm.plugin import TRANSFER_VARIABLE
from tritium.core.errors import InvalidArgument

GIB = 1 << 30

REMOVED = {
    "disable_log_requests": "requests are logged only when enable_log_requests asks for it",
    "use_v2_block_manager": "there is one block manager now",
    "swap_space": "the V1 engine recomputes instead of swapping",
    "preemption_mode": "the V1 engine always recomputes",
    "num_lookahead_slots": "the V1 engine chooses it",
    "num_scheduler_steps": "the V1 engine does not group steps",
    "multi_step_stream_outputs": "the V1 engine does not group steps",
    "scheduler_delay_factor": "the V1 scheduler has no delay",
    "enable_prompt_adapter": "prompt adapters left vLLM",
    "max_prompt_adapters": "prompt adapters left vLLM",
    "max_prompt_adapter_token": "prompt adapters left vLLM",
    "worker_use_ray": "distributed_executor_backend says it now",
    "engine_use_ray": "the engine always runs in a process of its own",
    "max_context_len_to_capture": "vLLM chooses it; max_cudagraph_capture_size bounds it",
    "max_seq_len_to_capture": "vLLM chooses it; max_cudagraph_capture_size bounds it",
    "disable_async_output_proc": "the V1 engine is always asynchronous",
    "device": "vLLM finds the device itself",
    "tokenizer_pool_size": "prompts come as tokens",
    "tokenizer_pool_type": "prompts come as tokens",
    "tokenizer_pool_extra_config": "prompts come as tokens",
    "max_num_partial_prefills": "the scheduler chooses how many prompts it prefills at once",
    "max_long_partial_prefills": "the scheduler chooses how many prompts it prefills at once",
    "compile": "optimization_level says it now",
}
"""Arguments that older model.json files carry and that may be dropped without changing results, with the reason."""

REPLACED = {
    "task": '"runner": "generate" or "pooling", with "convert": "embed" or "classify" where the model needs it',
    "override_pooler_config": '"pooler_config": {...}',
    "guided_decoding_backend": '"structured_outputs_config": {"backend": ...}',
    "guided_decoding_disable_fallback": '"structured_outputs_config": {"disable_fallback": ...}',
    "guided_decoding_disable_any_whitespace": '"structured_outputs_config": {"disable_any_whitespace": ...}',
    "guided_decoding_disable_additional_properties": '"structured_outputs_config": {...}',
    "enable_reasoning": '"reasoning_parser": the parser\'s name',
    "speculative_model": '"speculative_config": {"model": ..., "num_speculative_tokens": ...}',
    "num_speculative_tokens": '"speculative_config": {"model": ..., "num_speculative_tokens": ...}',
    "speculative_draft_tensor_parallel_size": '"speculative_config": {"draft_tensor_parallel_size": ...}',
    "ngram_prompt_lookup_max": '"speculative_config": {"method": "ngram", "prompt_lookup_max": ...}',
    "ngram_prompt_lookup_min": '"speculative_config": {"method": "ngram", "prompt_lookup_min": ...}',
    "rope_scaling": '"hf_overrides": {"rope_parameters": {...}}',
    "rope_theta": '"hf_overrides": {"rope_parameters": {"rope_theta": ...}}',
    "disable_mm_preprocessor_cache": '"mm_processor_cache_gb": 0',
    "enable_multimodal_encoder_data_parallel": '"mm_encoder_tp_mode": "data"',
    "cuda_graph_sizes": '"cudagraph_capture_sizes": [...]',
    "full_cuda_graph": '"compilation_config": {"cudagraph_mode": "FULL"}',
    "num_redundant_experts": '"eplb_config": {"num_redundant_experts": ...}',
    "eplb_window_size": '"eplb_config": {"window_size": ...}',
    "eplb_step_interval": '"eplb_config": {"step_interval": ...}',
    "eplb_log_balancedness": '"eplb_config": {"log_balancedness": ...}',
    "override_neuron_config": '"additional_config": {...}',
    "use_auth_token": '"hf_token": ...',
    "qlora_adapter_name_or_path": "an adapter in multi_lora.json",
}
"""Arguments that older model.json files carry and that would change results if dropped, with what says it now."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What of the machine the settings depend on: the GPUs by their ids, and the cores that this process may use."""

    gpus: Sequence[str]
    cores: Sequence[int]
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """`arguments` are AsyncEngineArgs by name; `environment` is to be set where it is not set already."""

    arguments: dict[str, Any]
    environment: dict[str, str]
    loras: Mapping[str, str]
    notes: list[str] = field(default_factory=list)


def settings_for(
    source: EngineSource,
    *,
    known: Sequence[str],
    machine: Machine,
    events_endpoint: str,
    replay_endpoint: str,
    side_channel_port: int,
    environment: Mapping[str, str],
    either_role: bool = True,
) -> VllmSettings:
    """Return what vLLM must be given; `known` are the names of its arguments, `environment` what is set already.

    `either_role` tells whether this vLLM's workers can prefill for others and decode for others at a time.

    Raises:
        InvalidArgument: an argument that vLLM does not have.
    """
    arguments = dict(source.arguments)
    loras = arguments.pop(LORA_MODULES, {})
    notes = _drop_removed(arguments, known)
    arguments.pop("model", None)
    arguments["model"] = str(source.folder)
    arguments.setdefault("disable_log_stats", True)
    if loras:
        arguments.setdefault("enable_lora", True)
    if arguments.get("enable_prefix_caching", True):
        arguments.setdefault(
            "kv_events_config",
            {
                "enable_kv_cache_events": True,
                "publisher": "zmq",
                "endpoint": events_endpoint,
                "replay_endpoint": replay_endpoint,
            },
        )
    extra = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if source.scratch:
        extra["VLLM_RPC_BASE_PATH"] = source.scratch  # where vLLM leaves its sockets lying
    if source.folder.is_dir():
        extra["HF_HUB_OFFLINE"] = "1"
    if source.moves_kv:
        role = "kv_producer" if source.role is Role.PREFILL else "kv_consumer"
        _set_transfer(
            arguments, extra, "kv_both" if either_role else role, side_channel_port, gpus=bool(machine.gpus)
        )
    if not machine.gpus:
        _set_cpu(arguments, extra, source, machine)
    extra = {name: value for name, value in extra.items() if name not in environment}
    if machine.gpus and source.workers > 1:
        _set_gpus(arguments, extra, source, machine.gpus, notes)
    return VllmSettings(arguments, extra, loras, notes)


def visible_gpus(count: int, environment: Mapping[str, str]) -> list[str]:
    """Return the ids of the GPUs that CUDA shows this process, as CUDA_VISIBLE_DEVICES spells them."""
    named = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def _drop_removed(arguments: dict[str, Any], known: Sequence[str]) -> list[str]:
    """Take out what vLLM no longer has, and return what to tell of it."""
    notes = []
    for name in [name for name in arguments if name not in known]:
        if name in REPLACED:
            raise InvalidArgument(f"model.json: vLLM has no '{name}' any more; write {REPLACED[name]} instead")
        if name not in REMOVED:
            close = get_close_matches(name, known, n=1)
            raise InvalidArgument(
                f"model.json: the installed vLLM has no argument '{name}'"
                + (f"; did you mean {close[0]}?" if close else "")
            )
        del arguments[name]
        notes.append(f"model.json: '{name}' is ignored: {REMOVED[name]}")
    return notes


def _set_transfer(
    arguments: dict[str, Any], extra: dict[str, str], role: str, side_channel_port: int, *, gpus: bool
) -> None:
    config = {"kv_connector": "NixlConnector", "kv_role": role}
    if not gpus:
        config["kv_buffer_device"] = "cpu"
    arguments.setdefault("kv_transfer_config", config)
    extra["VLLM_NIXL_SIDE_CHANNEL_HOST"] = "127.0.0.1"
    extra["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(side_channel_port)
    extra[TRANSFER_VARIABLE] = "nixl"


def _set_gpus(
    arguments: dict[str, Any], extra: dict[str, str], source: EngineSource, gpus: Sequence[str], notes: list[str]
) -> None:
    """Give every worker GPUs of its own; where there are too few, let workers share them, and their memory."""
    needed = arguments.get("tensor_parallel_size", 1) * arguments.get("pipeline_parallel_size", 1)
    if needed > len(gpus):
        return  # vLLM says what is missing
    places = len(gpus) // needed
    first = source.index % places * needed
    extra["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + needed])
    sharing = -(-source.workers // places)
    if sharing > 1 and "gpu_memory_utilization" not in arguments:
        arguments["gpu_memory_utilization"] = round(0.9 / sharing, 2)
        notes.append(
            f"{source.workers} workers of {needed} GPUs share {len(gpus)}: gpu_memory_utilization is"
            f" {arguments['gpu_memory_utilization']} unless model.json says otherwise"
        )


def _set_cpu(arguments: dict[str, Any], extra: dict[str, str], source: EngineSource, machine: Machine) -> None:
    """Choose what vLLM on a CPU needs to start soon and to leave room for others."""
    arguments.setdefault("block_size", 32)  # vLLM's own 128 hides shorter shared prefixes; AMX wants a multiple of 32
    if arguments.setdefault("enforce_eager", True):
        # Otherwise logprobs compile for a minute at their first use.
        extra["TORCHDYNAMO_DISABLE"] = "1"
    if "kv_cache_memory_bytes" not in arguments:
        # Left alone, every worker claims most of the machine's memory, and the second one fails.
        space = max(1, min(4, machine.memory_bytes // GIB // 16))
        extra["VLLM_CPU_KVCACHE_SPACE"] = str(space)
    extra["VLLM_HOST_IP"] = "127.0.0.1"
    if source.workers > 1 and arguments.get("tensor_parallel_size", 1) == 1:
        share = list(machine.cores)[source.index :: source.workers] or [
            machine.cores[source.index % len(machine.cores)]
        ]
        extra["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, share))
