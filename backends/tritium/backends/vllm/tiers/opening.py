"""What a worker process opens: its store, in a seat of its own, under names that only an equal engine comes to."""

from pathlib import Path
from typing import TYPE_CHECKING

import xxhash

from tritium.backends.vllm.tiers.layout import Layout
from tritium.backends.vllm.tiers.mover import Mover
from tritium.backends.vllm.tiers.seat import take_seat
from tritium.backends.vllm.tiers.setting import read_tiers, store_settings
from tritium.kv.block import Namespace
from tritium.kv.store import BlockStore

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from vllm.config import KVTransferConfig, ModelConfig, VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig


def open_mover(
    config: "VllmConfig",
    cache: "KVCacheConfig",
    transfer: "KVTransferConfig",
    caches: "Mapping[str, torch.Tensor]",
) -> Mover:
    """Open the tiers of this worker process.

    Raises:
        InvalidArgument: tiers that cannot be, or a cache that is not laid out by blocks.
        Unavailable: a directory is in use by something else.
    """
    given = transfer.kv_connector_extra_config
    rank = rank_of(config)
    layout = Layout(caches, cache.num_blocks)
    block_tokens = cache.kv_cache_groups[0].kv_cache_spec.block_size
    tiers = read_tiers(given["tiers"])
    seat = take_seat(tiers.directories, given["scope"], rank, given["number"])
    namespace = Namespace(
        model=_identity(config.model_config),
        dtype=layout.dtype,
        layout=layout.name,
        block_tokens=block_tokens,
        tp_size=config.parallel_config.tensor_parallel_size,
        tp_rank=rank,
    )
    try:
        settings = store_settings(tiers, layout.block_bytes, seat.name, namespace.shape)
        store = BlockStore(settings, block_tokens)
    except BaseException:
        seat.close()
        raise
    return Mover(layout, store, namespace.shape, rank, seat)


def rank_of(config: "VllmConfig") -> int:
    """Return this worker process's number within its engine."""
    parallel = config.parallel_config
    return parallel.rank % (parallel.tensor_parallel_size * parallel.pipeline_parallel_size)


def _identity(model: "ModelConfig") -> str:
    """Return what names the weights: the files of a local folder by size and time, else name and revision."""
    words = [str(model.model), str(model.revision), str(model.dtype), str(model.quantization)]
    folder = Path(model.model)
    if folder.is_dir():
        for file in sorted(file for file in folder.iterdir() if file.suffix in {".json", ".safetensors", ".bin"}):
            found = file.stat()
            words.append(f"{file.name}:{found.st_size}:{found.st_mtime_ns}")
    return xxhash.xxh3_128_hexdigest("\n".join(words).encode())
