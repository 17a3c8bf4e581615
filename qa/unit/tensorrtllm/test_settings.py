"""From model.json to the arguments of TensorRT-LLM's LLM."""

import json
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.engine import EngineSource, Role
from tritium.backends.tensorrtllm.settings import (
    CACHE_FROM_VLLM,
    FROM_VLLM,
    MEANINGLESS,
    TensorRtLlmSettings,
    settings_for,
)
from tritium.core.errors import InvalidArgument

RECORDED = json.loads(Path("qa/fakes/tensorrt_llm.json").read_text())["names"]


def settle(role: Role = Role.AGGREGATED, **arguments: Any) -> TensorRtLlmSettings:
    return settings_for(EngineSource(Path("/models/m"), arguments, role), known=RECORDED["TorchLlmArgs"])


def test_arguments_of_both_engines_are_understood() -> None:
    """TensorRT-LLM's own names pass, those of vLLM are translated, some into the cache's configuration."""
    settled = settle(
        model="m", tensor_parallel_size=2, max_model_len=512, gpu_memory_utilization=0.5, enable_prefix_caching=False
    )
    assert settled.arguments["tensor_parallel_size"] == 2
    assert settled.arguments["max_seq_len"] == 512
    assert settled.arguments["kv_cache_config"] == {"free_gpu_memory_fraction": 0.5, "enable_block_reuse": False}
    assert settled.arguments["model"] == "/models/m"
    both = settle(block_size=64, kv_cache_config={"host_cache_size": 1}).arguments["kv_cache_config"]
    assert both == {"tokens_per_block": 64, "host_cache_size": 1, "event_buffer_max_size": 16384}


def test_every_translation_exists() -> None:
    """What is set is an argument of the TensorRT-LLM that was read."""
    assert set(FROM_VLLM.values()) <= set(RECORDED["TorchLlmArgs"])
    assert set(CACHE_FROM_VLLM.values()) <= set(RECORDED["KvCacheConfig"])
    assert not set(MEANINGLESS) & set(RECORDED["TorchLlmArgs"])
    for role in Role:
        given = settle(role, lora_modules={"a": "/a"}, block_size=32).arguments
        assert set(given) <= set(RECORDED["TorchLlmArgs"])
        assert set(given["kv_cache_config"]) <= set(RECORDED["KvCacheConfig"])
        assert set(given.get("cache_transceiver_config", ())) <= set(RECORDED["CacheTransceiverConfig"])


def test_what_is_triton_s_stays_out() -> None:
    """The part of model.yaml that says what Triton should do is not TensorRT-LLM's."""
    assert "triton_config" not in settle(triton_config={"decoupled": True}).arguments


def test_what_has_no_counterpart_is_said() -> None:
    """An argument that changes no answer is ignored with a note; one that might is refused with the nearest name."""
    assert "kv_cache_config.host_cache_size" in settle(swap_space=4).notes[0]
    with pytest.raises(InvalidArgument, match="no argument 'max_seq_length'; did you mean max_seq_len"):
        settle(max_seq_length=4)
    with pytest.raises(InvalidArgument, match="both stand for TensorRT-LLM's 'max_seq_len'"):
        settle(max_seq_len=4, max_model_len=5)


def test_roles() -> None:
    """Workers of a disaggregated fleet move KV; one that only prefills does not overlap steps."""
    prefill, decode = settle(Role.PREFILL).arguments, settle(Role.DECODE).arguments
    assert prefill["cache_transceiver_config"] == decode["cache_transceiver_config"] == {"backend": "DEFAULT"}
    assert (prefill["disable_overlap_scheduler"], decode.get("disable_overlap_scheduler")) == (True, None)
    assert "cache_transceiver_config" not in settle().arguments
