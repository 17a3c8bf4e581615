"""From a model's folder and model.json to vLLM's engine arguments and the environment its processes need.

Every argument of the installed vLLM passes through; we own no list of them. Pure: the caller applies the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from tritium.backends.engine import LORA_MODULES, EngineSource, Role
from tritium.backends.vllm.plugin import TRANSFER_VARIABLE
from tritium.backends.vllm.tiers.setting import SETTING, beside, connector_config
from tritium.compat.vllm_arguments import REMOVED, REPLACED
from tritium.core.errors import InvalidArgument

GIB = 1 << 30


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
    tiers = arguments.pop(SETTING, None)
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
        _set_transfer(arguments, extra, "kv_both" if either_role else role, gpus=bool(machine.gpus))
        extra["VLLM_NIXL_SIDE_CHANNEL_HOST"] = source.host or "127.0.0.1"
        extra["VLLM_NIXL_SIDE_CHANNEL_PORT"] = str(side_channel_port)
    if tiers is not None:
        _set_tiers(arguments, tiers, source)
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


def _set_transfer(arguments: dict[str, Any], extra: dict[str, str], role: str, *, gpus: bool) -> None:
    config = {"kv_connector": "NixlConnector", "kv_role": role}
    if not gpus:
        config["kv_buffer_device"] = "cpu"
    arguments.setdefault("kv_transfer_config", config)
    extra[TRANSFER_VARIABLE] = "nixl"


def _set_tiers(arguments: dict[str, Any], text: object, source: EngineSource) -> None:
    """Have KV kept below the device, beside whatever moves it between workers."""
    if "kv_transfer_config" in source.arguments:
        raise InvalidArgument(
            f"model.json: both '{SETTING}' and 'kv_transfer_config' are given", "name the connectors in one of them"
        )
    if not arguments.get("enable_prefix_caching", True):
        raise InvalidArgument(f"model.json: '{SETTING}' needs enable_prefix_caching", "leave one of the two out")
    tiers = connector_config(text, source.folder.name, source.index)
    moving = arguments.get("kv_transfer_config")
    arguments["kv_transfer_config"] = beside(moving, tiers) if moving else tiers


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
