"""Which worker holds which block: one dict from block hash to a bitmask of workers.

    engine's event -> (engine's own hash -> our hash, per worker) -> mask of the block
    match(prompt)  -> walk its blocks while some worker holds them all -> blocks held, per worker

An engine's hashes are opaque: only where they map to matters, and two engines may use one hash for two things.
Every worker's share is bounded by its capacity, so that lost removals cannot grow the index.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeldBlock:
    """One block of a worker, as `dump` tells it."""

    engine_hash: int
    block: int


class KvIndex:
    """The blocks of all workers. Workers are numbered by the caller with small integers, their bits."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}
        self._workers: dict[int, dict[int, int]] = {}
        self._capacity: dict[int, int] = {}
        self._bits: dict[int, int] = {}
        self._again: dict[tuple[int, int], int] = {}
        """(worker, block) -> how many more engine hashes name it, for engines that store a block twice."""
        self.orphans = 0
        """Stored blocks dropped because the block before them is unknown here."""

    def __len__(self) -> int:
        """Return the number of distinct blocks."""
        return len(self._masks)

    def held_by(self, worker: int) -> int:
        """Return how many blocks a worker holds, by its engine's count."""
        return len(self._workers[worker])

    def add(self, worker: int, capacity_blocks: int) -> None:
        """Begin to follow a worker that can hold at most `capacity_blocks`."""
        self._workers[worker] = {}
        self._capacity[worker] = max(1, capacity_blocks)
        self._bits[worker] = 1 << worker

    def parent(self, worker: int, engine_hash: int) -> int | None:
        """Return our hash of a block of the worker, or None where it is not known."""
        return self._workers[worker].get(engine_hash)

    def store(self, worker: int, engine_hashes: Sequence[int], blocks: Sequence[int]) -> None:
        """Note that `blocks`, named so by the worker's engine, entered its cache."""
        held = self._workers[worker]
        masks = self._masks
        bit = self._bits[worker]
        last = with_us = 0
        for engine_hash, block in zip(engine_hashes, blocks, strict=True):
            known = held.get(engine_hash)
            if known == block:
                continue
            if known is not None:
                self.remove(worker, (engine_hash,))
            mask = masks.get(block)
            if mask is None:
                masks[block] = bit
            elif mask & bit:
                self._again[worker, block] = self._again.get((worker, block), 0) + 1
            else:
                # Blocks in a row mostly have one mask: kept as one object, or the masks outweigh all the rest.
                if mask is not last:
                    last, with_us = mask, mask | bit
                masks[block] = with_us
            held[engine_hash] = block
        # A worker cannot hold more than its capacity: what is over was removed and we were not told, oldest first.
        while len(held) > self._capacity[worker]:
            self.remove(worker, (next(iter(held)),))

    def remove(self, worker: int, engine_hashes: Iterable[int]) -> None:
        """Note that blocks left the worker's cache; unknown ones are ignored."""
        held = self._workers[worker]
        masks = self._masks
        bit = self._bits[worker]
        last = without_us = 0
        for engine_hash in engine_hashes:
            block = held.pop(engine_hash, None)
            if block is None:
                continue
            if self._again and (more := self._again.pop((worker, block), 0)):
                if more > 1:
                    self._again[worker, block] = more - 1
                continue
            mask = masks[block]
            if mask == bit:
                del masks[block]
                continue
            if mask is not last:
                last, without_us = mask, mask & ~bit
            masks[block] = without_us

    def clear(self, worker: int) -> None:
        """Note that the worker dropped its whole cache."""
        self.remove(worker, list(self._workers[worker]))

    def forget(self, worker: int) -> None:
        """Stop following the worker; its number may be used again."""
        self.clear(worker)
        del self._workers[worker]
        del self._capacity[worker]
        del self._bits[worker]

    def dump(self, worker: int) -> list[HeldBlock]:
        """Return everything known of one worker, for another router to start from."""
        return [HeldBlock(engine_hash, block) for engine_hash, block in self._workers[worker].items()]

    def match(self, blocks: Sequence[int]) -> Mapping[int, int]:
        """Return, for every worker that holds a beginning of `blocks`, how many of them it holds without a gap."""
        overlaps: dict[int, int] = {}
        masks = map(self._masks.get, blocks)
        holders = next(masks, None) or 0
        depth = 1
        for mask in masks:
            if mask != holders:
                still = holders & mask if mask else 0
                if still != holders:
                    _spread(overlaps, holders ^ still, depth)
                    holders = still
                    if not still:
                        break
            depth += 1
        _spread(overlaps, holders, depth)
        return overlaps


def _spread(overlaps: dict[int, int], workers: int, depth: int) -> None:
    while workers:
        lowest = workers & -workers
        overlaps[lowest.bit_length() - 1] = depth
        workers ^= lowest
