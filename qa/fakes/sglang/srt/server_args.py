"""ServerArgs: those of the real ones that the tests set."""

from typing import Any

import msgspec


class ServerArgs(msgspec.Struct, kw_only=True):
    """A few of the 546."""

    model_path: str
    tokenizer_path: str | None = None
    context_length: int | None = None
    page_size: int | None = None
    tp_size: int = 1
    dp_size: int = 1
    pp_size: int = 1
    mem_fraction_static: float | None = None
    max_running_requests: int | None = None
    chunked_prefill_size: int | None = None
    disable_cuda_graph: bool = False
    disable_radix_cache: bool = False
    random_seed: int | None = None
    json_model_override_args: str = "{}"
    dtype: str = "auto"
    trust_remote_code: bool = False
    log_level: str = "info"
    enable_lora: bool | None = None
    lora_paths: Any = None
    max_loras_per_batch: int = 8
    kv_events_config: str | None = None
    enable_priority_scheduling: bool = False
    schedule_low_priority_values_first: bool = False
    incremental_streaming_output: bool = False
    disaggregation_mode: str = "null"
    disaggregation_bootstrap_port: int = 8998
    disaggregation_transfer_backend: str = "mooncake"
    host: str = "127.0.0.1"
