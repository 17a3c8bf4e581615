"""From model.json to SGLang's ServerArgs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.engine import EngineSource, Role
from tritium.backends.sglang.settings import FROM_VLLM, MEANINGLESS, SglangSettings, settings_for
from tritium.core.errors import InvalidArgument

RECORDED = json.loads(Path("qa/fakes/sglang.json").read_text())["names"]


def settle(role: Role = Role.AGGREGATED, **arguments: Any) -> SglangSettings:
    source = EngineSource(Path("/models/m"), arguments, role)
    return settings_for(
        source,
        known=RECORDED["fields"],
        events_endpoint="tcp://127.0.0.1:5",
        replay_endpoint="tcp://127.0.0.1:6",
        bootstrap_port=7,
    )


def test_arguments_of_both_engines_are_understood() -> None:
    """SGLang's own names pass, those of vLLM are translated; the model is the folder that was found."""
    settled = settle(model="m", tensor_parallel_size=2, attention_backend="triton", enable_prefix_caching=False)
    assert settled.arguments["tp_size"] == 2
    assert settled.arguments["attention_backend"] == "triton"
    assert settled.arguments["disable_radix_cache"] is True
    assert settled.arguments["model_path"] == "/models/m"
    assert settle(hf_overrides={"rope": 1}).arguments["json_model_override_args"] == '{"rope":1}'


def test_every_translation_exists() -> None:
    """What vLLM's names are translated to, and what is set, are arguments of the SGLang that was read."""
    assert set(FROM_VLLM.values()) <= set(RECORDED["fields"])
    assert not set(MEANINGLESS) & set(RECORDED["fields"])
    loaded = settle(Role.PREFILL, lora_modules={"a": "/a"}, enable_priority_scheduling=True, seed=1)
    assert set(loaded.arguments) <= set(RECORDED["fields"])


def test_what_has_no_counterpart_is_said() -> None:
    """An argument that changes no answer is ignored with a note; one that might is refused with the nearest name."""
    assert settle(swap_space=4).notes == (
        "model.json: 'swap_space' is ignored: SGLang has hierarchical caches instead",
    )
    with pytest.raises(InvalidArgument, match="no argument 'context_lenght'; did you mean context_length"):
        settle(context_lenght=4)
    with pytest.raises(InvalidArgument, match="both stand for SGLang's 'context_length'"):
        settle(context_length=4, max_model_len=5)


def test_events_are_asked_for() -> None:
    """KV events come to our endpoint, hashed by adapter and salt; not without a prefix cache, nor of replicas."""
    config = json.loads(settle().arguments["kv_events_config"])
    assert config == {
        "publisher": "zmq",
        "endpoint": "tcp://127.0.0.1:5",
        "replay_endpoint": "tcp://127.0.0.1:6",
        "format": "dynamo",
    }
    assert set(config) <= set(RECORDED["KVEventsConfig"])
    assert "kv_events_config" not in settle(disable_radix_cache=True).arguments
    replicas = settle(dp_size=2)
    assert "kv_events_config" not in replicas.arguments
    assert "several replicas" in replicas.notes[0]


def test_roles_and_adapters() -> None:
    """Roles become SGLang's modes with a port for the bootstrap; adapters are named with their folders."""
    prefill = settle(Role.PREFILL).arguments
    assert (prefill["disaggregation_mode"], prefill["disaggregation_bootstrap_port"]) == ("prefill", 7)
    assert settle(Role.DECODE).arguments["disaggregation_mode"] == "decode"
    assert "disaggregation_mode" not in settle().arguments
    loras = settle(lora_modules={"pirate": "/p"})
    assert (loras.arguments["enable_lora"], loras.arguments["lora_paths"]) == (True, {"pirate": "/p"})
