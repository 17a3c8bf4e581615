"""Triton's metrics: which ones it has, what Tritium has for each, and what never was one."""

import re

KEPT = frozenset(
    f"nv_{name}"
    for name in (
        *("inference_request_success", "inference_request_failure", "inference_count", "inference_exec_count"),
        *("inference_request_duration_us", "inference_queue_duration_us", "inference_pending_request_count"),
        *("inference_compute_input_duration_us", "inference_compute_infer_duration_us"),
        *("inference_compute_output_duration_us", "inference_first_response_histogram_ms"),
        *("inference_request_summary_us", "inference_queue_summary_us", "inference_compute_input_summary_us"),
        *("inference_compute_infer_summary_us", "inference_compute_output_summary_us"),
        *("cache_num_hits_per_model", "cache_num_misses_per_model", "cache_hit_duration_per_model"),
        *("cache_miss_duration_per_model", "cache_hit_summary_per_model", "cache_miss_summary_per_model"),
        *("cache_num_entries", "cache_num_evictions", "cache_num_hits", "cache_num_lookups", "cache_num_misses"),
        *("cache_util", "cache_insertion_duration", "cache_lookup_duration", "model_load_duration_secs"),
        *("pinned_memory_pool_total_bytes", "pinned_memory_pool_used_bytes"),
        *("cpu_utilization", "cpu_memory_total_bytes", "cpu_memory_used_bytes"),
    )
)
"""Metrics that Tritium exports under the same names."""

ELSEWHERE = {
    "nv_gpu_utilization": "DCGM_FI_DEV_GPU_UTIL",
    "nv_gpu_memory_total_bytes": "DCGM_FI_DEV_FB_TOTAL",
    "nv_gpu_memory_used_bytes": "DCGM_FI_DEV_FB_USED",
    "nv_gpu_power_usage": "DCGM_FI_DEV_POWER_USAGE",
    "nv_gpu_power_limit": "DCGM_FI_DEV_POWER_MGMT_LIMIT",
    "nv_energy_consumption": "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
}
"""Triton's metrics of GPUs, with what NVIDIA's dcgm-exporter calls them."""

LANGUAGE = {
    "nv_inference_queue_duration_us": "tritium_held_seconds_sum",
    "nv_inference_pending_request_count": "tritium_engine_waiting",
    "nv_inference_request_success": "tritium_fleet_requests_total",
    "nv_trt_llm_kv_cache_block_metrics": "tritium_engine_kv_used_blocks",
    "nv_trt_llm_inflight_batcher_metrics": "tritium_engine_running",
    "nv_trt_llm_request_metrics": "tritium_engine_waiting",
    "nv_trt_llm_general_metrics": "tritium_engine_steps_total",
    "nv_trt_llm_runtime_memory_metrics": "",
    "nv_trt_llm_disaggregated_serving_metrics": "",
    "nv_llm_input_token_len": "tritium_prompt_tokens_total",
    "nv_llm_output_token_len": "tritium_output_tokens_total",
}
"""For a language model: Triton's metric, and the one of Tritium's fleet that says the same, or more."""

_SUFFIX = re.compile(r"_(bucket|count|sum)$")
_NAME = re.compile(r"\bnv_[a-z][a-z0-9_]*")
_HISTOGRAMS = frozenset(
    {"nv_inference_first_response_histogram_ms", "nv_llm_input_token_len", "nv_llm_output_token_len"}
)


def names(expression: str) -> list[str]:
    """Return the names of Triton's metrics in an expression, each once."""
    return list(dict.fromkeys(_NAME.findall(expression)))


def base(name: str) -> str:
    """Return the metric that a series belongs to: histograms and summaries have several series."""
    stem = _SUFFIX.sub("", name)
    return stem if stem in _HISTOGRAMS or stem.endswith("_summary_us") else name


def existed(name: str) -> bool:
    """Tell whether Triton ever exported a series of this name."""
    return base(name) in KEPT or base(name) in ELSEWHERE or base(name) in LANGUAGE
