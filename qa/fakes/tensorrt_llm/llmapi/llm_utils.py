"""Configurations of mappings."""

from typing import Any

from .llm_args import CacheTransceiverConfig, KvCacheConfig


def update_llm_args_with_extra_dict(
    llm_args: dict[str, Any], llm_args_dict: dict[str, Any], extra_llm_api_options: str | None = None
) -> dict[str, Any]:
    """Make the objects that the LLM's arguments are."""
    made = dict(llm_args_dict)
    for name, kind in (("kv_cache_config", KvCacheConfig), ("cache_transceiver_config", CacheTransceiverConfig)):
        if isinstance(made.get(name), dict):
            made[name] = kind(**made[name])
    return llm_args | made
