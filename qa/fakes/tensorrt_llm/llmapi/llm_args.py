"""The LLM's arguments: those of the real ones that the tests set."""

from typing import Any

from pydantic import BaseModel


class KvCacheConfig(BaseModel, extra="forbid"):
    """Of the cache."""

    enable_block_reuse: bool = True
    max_tokens: int | None = None
    free_gpu_memory_fraction: float | None = None
    host_cache_size: int | None = None
    event_buffer_max_size: int = 0
    dtype: str = "auto"
    tokens_per_block: int = 32


class CacheTransceiverConfig(BaseModel, extra="forbid"):
    """Of KV between workers."""

    backend: str | None = None


class TorchLlmArgs(BaseModel, extra="forbid"):
    """A few of many."""

    model: str
    tokenizer: Any = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    dtype: str = "auto"
    trust_remote_code: bool = False
    enable_lora: bool = False
    lora_config: Any = None
    kv_cache_config: KvCacheConfig = KvCacheConfig()
    cache_transceiver_config: CacheTransceiverConfig | None = None
    enable_chunked_prefill: bool = False
    guided_decoding_backend: str | None = None
    max_batch_size: int | None = 2048
    max_num_tokens: int | None = 8192
    max_seq_len: int | None = None
    cuda_graph_config: Any = None
    disable_overlap_scheduler: bool = False
    enable_iter_perf_stats: bool = False
    backend: str = "pytorch"
