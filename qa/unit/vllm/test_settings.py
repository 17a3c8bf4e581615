"""From model.json to vLLM's arguments and environment, without vLLM."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import pytest

from tritium.backends.engine import EngineSource, Role
from tritium.backends.vllm.settings import GIB, Machine, settings_for, visible_gpus
from tritium.compat.vllm_arguments import REMOVED, REPLACED
from tritium.core.errors import InvalidArgument

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test does"
)

KNOWN = [
    "model",
    "max_model_len",
    "block_size",
    "enforce_eager",
    "kv_transfer_config",
    "kv_events_config",
    "enable_lora",
]
KNOWN += [
    "disable_log_stats",
    "kv_cache_memory_bytes",
    "tensor_parallel_size",
    "gpu_memory_utilization",
    "enable_prefix_caching",
]
CPU = Machine(gpus=[], cores=[0, 1, 2, 3], memory_bytes=32 * GIB)
GPU = Machine(gpus=["0"], cores=[0, 1], memory_bytes=256 * GIB)


def settle(arguments=None, machine=CPU, environment=None, *, either_role=True, **source):
    return settings_for(
        EngineSource(Path("/models/m"), arguments or {}, **source),
        known=KNOWN,
        machine=machine,
        events_endpoint="tcp://127.0.0.1:1",
        replay_endpoint="tcp://127.0.0.1:2",
        side_channel_port=5600,
        environment=environment or {},
        either_role=either_role,
    )


def test_passes_everything_on():
    """Arguments of model.json go to vLLM as they are; the folder is the model; events are asked for."""
    settings = settle({"model": "ignored", "max_model_len": 7, "tensor_parallel_size": 2}, GPU)
    assert settings.arguments == {
        "model": "/models/m",
        "max_model_len": 7,
        "tensor_parallel_size": 2,
        "disable_log_stats": True,
        "kv_events_config": {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": "tcp://127.0.0.1:1",
            "replay_endpoint": "tcp://127.0.0.1:2",
        },
    }
    assert settings.notes == []
    assert "TORCHDYNAMO_DISABLE" not in settings.environment


def test_what_vllm_removed_is_dropped_and_told():
    """An argument that only older vLLM had is left out, and the operator is told why."""
    settings = settle({"disable_log_requests": True, "swap_space": 4})
    assert "disable_log_requests" not in settings.arguments
    assert [re.search("'(.*)'", note).group(1) for note in settings.notes] == ["disable_log_requests", "swap_space"]
    assert settings.notes[0].endswith(REMOVED["disable_log_requests"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("max_model_length", "no argument 'max_model_length'; did you mean max_model_len?"),
        ("zzz", "no argument 'zzz'$"),
    ],
)
def test_unknown_arguments_are_refused(name, words):
    """A misspelt argument is not dropped in silence."""
    with pytest.raises(InvalidArgument) as raised:
        settle({name: 1})
    assert re.search(words, raised.value.message)


@pytest.mark.parametrize("name", sorted(REPLACED))
def test_replaced_arguments_are_told_with_what_replaces_them(name):
    """An argument whose loss would change results is refused, and what says it now is told."""
    with pytest.raises(InvalidArgument, match=f"vLLM has no '{name}' any more; write ") as raised:
        settle({name: 1})
    assert REPLACED[name] in raised.value.message


@needs_vllm
@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore")  # vLLM's and torch's own, at import
def test_replacements_exist():
    """What is told instead of an old argument is an argument of the installed vLLM, and the old ones are not."""
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415  only where vLLM is installed

    known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    named = {name for words in REPLACED.values() for name in re.findall(r'^"(\w+)"', words)}
    assert named <= known
    assert not known & (REPLACED.keys() | REMOVED.keys())


def test_known_again():
    """An argument that the installed vLLM has is passed on even where an older one lost it."""
    assert "swap_space" not in KNOWN
    settings = settings_for(
        EngineSource(Path("/m"), {"swap_space": 1}),
        known=[*KNOWN, "swap_space"],
        machine=GPU,
        events_endpoint="",
        replay_endpoint="",
        side_channel_port=0,
        environment={},
    )
    assert settings.arguments["swap_space"] == 1
    assert settings.notes == []


def test_cpu():
    """On a CPU: eager, small blocks, a bounded cache, no compiler, each only where nothing else was asked for."""
    settings = settle()
    assert settings.arguments["block_size"] == 32
    assert settings.arguments["enforce_eager"] is True
    assert settings.environment["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert settings.environment["TORCHDYNAMO_DISABLE"] == "1"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in settings.environment
    asked = settle({"block_size": 64, "enforce_eager": False, "kv_cache_memory_bytes": 1})
    assert asked.arguments["block_size"] == 64
    assert "TORCHDYNAMO_DISABLE" not in asked.environment
    assert "VLLM_CPU_KVCACHE_SPACE" not in asked.environment
    set_before = settle(environment={"VLLM_CPU_KVCACHE_SPACE": "9"})
    assert "VLLM_CPU_KVCACHE_SPACE" not in set_before.environment


@pytest.mark.parametrize(
    ("index", "workers", "cores", "bound"),
    [(0, 2, [0, 1, 2, 3], "0,2"), (1, 2, [0, 1, 2, 3], "1,3"), (2, 3, [4, 5], "4"), (1, 2, [0, 1], "1")],
)
def test_workers_share_the_cores(index, workers, cores, bound):
    """Several workers on one machine compute on cores of their own as far as there are enough."""
    settings = settle(machine=Machine(gpus=[], cores=cores, memory_bytes=GIB), index=index, workers=workers)
    assert settings.environment["VLLM_CPU_OMP_THREADS_BIND"] == bound
    assert settings.environment["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.mark.parametrize(("role", "expected"), [(Role.PREFILL, "kv_producer"), (Role.DECODE, "kv_consumer")])
def test_roles(role, expected):
    """Workers of fleets with roles can do either, over host memory where there is no GPU; old ones' vLLM their own."""
    config = settle(role=role).arguments["kv_transfer_config"]
    assert config == {"kv_connector": "NixlConnector", "kv_role": "kv_both", "kv_buffer_device": "cpu"}
    assert settle(mixed=True).arguments["kv_transfer_config"] == config
    assert settle(role=role, either_role=False).arguments["kv_transfer_config"]["kv_role"] == expected
    settings = settle(role=role, machine=GPU)
    assert "kv_buffer_device" not in settings.arguments["kv_transfer_config"]
    assert settings.environment["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5600"
    assert settings.environment["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "127.0.0.1"
    reached = settle(role=role, host="10.0.0.2")
    assert reached.environment["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "10.0.0.2"
    assert settings.environment["TRITIUM_KV_TRANSFER"] == "nixl"
    assert "kv_transfer_config" not in settle().arguments


def test_loras():
    """Our own argument for adapters does not reach vLLM as such."""
    settings = settle({"lora_modules": {"poet": "/loras/poet"}})
    assert settings.loras == {"poet": "/loras/poet"}
    assert settings.arguments["enable_lora"] is True
    assert "lora_modules" not in settings.arguments


def test_no_events_without_a_prefix_cache():
    """Where the model's prefix cache is off there is nothing to tell of."""
    assert "kv_events_config" not in settle({"enable_prefix_caching": False}).arguments


def test_leavings_go_to_the_scratch_folder(tmp_path):
    """vLLM's sockets lie where they are removed with the worker, and a folder on disk asks no hub."""
    settings = settle(scratch=str(tmp_path))
    assert settings.environment["VLLM_RPC_BASE_PATH"] == str(tmp_path)
    assert "HF_HUB_OFFLINE" not in settings.environment


@pytest.mark.parametrize(
    ("index", "workers", "parallel", "visible", "share"),
    [
        (0, 2, 1, "4", None),
        (1, 2, 1, "5", None),
        (1, 2, 2, "6,7", None),
        (3, 4, 2, "6,7", 0.45),
        (4, 6, 1, "4", 0.45),
        (0, 1, 1, None, None),
        (0, 2, 8, None, None),
    ],
)
def test_workers_have_gpus_of_their_own(index, workers, parallel, visible, share):
    """Each worker sees its own GPUs; where there are too few they share them, and divide their memory."""
    machine = Machine(gpus=["4", "5", "6", "7"], cores=[0], memory_bytes=GIB)
    before = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    settings = settle({"tensor_parallel_size": parallel}, machine, before, index=index, workers=workers)
    assert settings.environment.get("CUDA_VISIBLE_DEVICES") == visible
    assert settings.arguments.get("gpu_memory_utilization") == share
    assert bool(settings.notes) == (share is not None)


def test_visible_gpus():
    """GPUs go by the names under which CUDA shows them here."""
    assert visible_gpus(2, {}) == ["0", "1"]
    assert visible_gpus(2, {"CUDA_VISIBLE_DEVICES": "3, GPU-x"}) == ["3", "GPU-x"]
    assert visible_gpus(0, {}) == []
