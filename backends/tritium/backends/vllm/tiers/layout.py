"""How a block lies on the device, layer by layer, and as one row of bytes below it.

    device:  layer 0 [blocks, heads, tokens, size], layer 1 [blocks, ...], ...
    row:     block of layer 0 | block of layer 1 | ...

Both ways go through rows in host memory: pinned and copied on the GPU's current stream where there is one, so that
what is gathered is the KV of the steps before, and what is scattered is there for the steps after.
"""

from collections.abc import Mapping, Sequence

import torch
import xxhash

from tritium.core.errors import InvalidArgument


class Layout:
    """The KV cache of one worker process."""

    def __init__(self, caches: Mapping[str, torch.Tensor], blocks: int) -> None:
        """Take vLLM's tensors by layer; those that layers share are counted once.

        Raises InvalidArgument where a tensor's first dimension is not the blocks.
        """
        self._layers: list[torch.Tensor] = []
        words = []
        seen = set()
        for name, cache in sorted(caches.items()):
            if not isinstance(cache, torch.Tensor) or cache.shape[0] != blocks:
                raise InvalidArgument(
                    f"the KV cache of {name} is not laid out by blocks", "leave kv_tiers out for this model"
                )
            place = (cache.data_ptr(), tuple(cache.shape))
            if place in seen:
                continue
            seen.add(place)
            self._layers.append(cache)
            words.append(f"{name}:{cache.dtype}:{tuple(cache.shape[1:])}")
        self._sizes = [cache[0].numel() * cache.element_size() for cache in self._layers]
        self.block_bytes = sum(self._sizes)
        self.device = self._layers[0].device
        self.dtype = str(self._layers[0].dtype).removeprefix("torch.")
        self.name = xxhash.xxh3_128_hexdigest(";".join(words).encode())
        """Names what a row holds: its layers, in this order, with their shapes."""

    @property
    def on_gpu(self) -> bool:
        """Return whether bytes have to cross to reach the device."""
        return self.device.type == "cuda"

    def rows(self, count: int) -> torch.Tensor:
        """Return host memory for so many blocks, `[count, block_bytes]`."""
        return torch.empty((count, self.block_bytes), dtype=torch.uint8, pin_memory=self.on_gpu)

    def gather(self, blocks: Sequence[int]) -> "tuple[torch.Tensor, torch.cuda.Event | None]":
        """Copy blocks into rows; the rows are whole once the event, if there is one, has happened."""
        rows = self.rows(len(blocks))
        index = torch.tensor(blocks, device=self.device)
        start = 0
        for cache, size in zip(self._layers, self._sizes, strict=True):
            picked = cache.index_select(0, index).view(len(blocks), -1).view(torch.uint8)
            rows[:, start : start + size].copy_(picked, non_blocking=True)
            start += size
        return rows, self.mark()

    def scatter(self, rows: torch.Tensor, blocks: Sequence[int]) -> "torch.cuda.Event | None":
        """Copy rows into blocks; the rows are free once the event, if there is one, has happened."""
        index = torch.tensor(blocks, device=self.device)
        start = 0
        for cache, size in zip(self._layers, self._sizes, strict=True):
            part = rows[:, start : start + size].to(self.device, non_blocking=True).contiguous()
            cache.index_copy_(0, index, part.view(cache.dtype).view(len(blocks), *cache.shape[1:]))
            start += size
        return self.mark()

    def mark(self, *, timed: bool = False) -> "torch.cuda.Event | None":
        """Return an event that happens when the GPU has done all it was given so far; none without a GPU."""
        if not self.on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=timed)  # type: ignore[no-untyped-call]
        event.record()
        return event
