"""Which worker holds which block of one tier: one dict from block hash to a bitmask of workers.

    engine's event -> (engine's own hash -> our hash, per worker) -> mask of the block
    match(prompt)  -> walk its blocks while some worker holds them all -> blocks held, per worker

An engine's hashes are opaque: only where they map to matters, and two engines may use one hash for two things.
A worker's share is bounded by its capacity and all shares together by `limit`: what is over is dropped, first what was
neither stored nor routed lately. So lost removals cannot grow the index, nor can a fleet too large for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import islice

MOST_BLOCKS = 16_000_000
"""What an index holds at most, a block once for each worker that has it: about 2.4 GiB when all differ."""

_AT_ONCE = 64
"""Dropping goes by so large a part of what is allowed: the front of a dict is dear to visit often."""


class KvIndex:
    """The blocks of all workers. Workers are numbered by the caller with small integers, their bits."""

    def __init__(self, limit: int = MOST_BLOCKS) -> None:
        self._limit = limit
        self._entries = 0
        self._masks: dict[int, int] = {}
        self._workers: dict[int, dict[int, int]] = {}
        self._capacity: dict[int, int] = {}
        self._bits: dict[int, int] = {}
        self._again: dict[tuple[int, int], int] = {}
        """(worker, block) -> how many more engine hashes name it, for engines that store a block twice."""
        self._young: set[int] = set()
        self._old: set[int] = set()
        """Blocks routed to lately, in two generations: when the young one is full it becomes the old one."""
        self.dropped = 0
        """Blocks dropped because a worker's share or the whole index was full."""

    def __len__(self) -> int:
        """Return the number of distinct blocks."""
        return len(self._masks)

    @property
    def entries(self) -> int:
        """Return how many blocks all workers hold together."""
        return self._entries

    @property
    def masks(self) -> Mapping[int, int]:
        """Return the bits of a block's holders, by block."""
        return self._masks

    def held_by(self, worker: int) -> int:
        """Return how many blocks a worker holds, by its engine's count."""
        return len(self._workers[worker])

    def held(self, worker: int) -> Sized:
        """Return what a worker holds as something whose length goes with it."""
        return self._workers[worker]

    def capacity_of(self, worker: int) -> int:
        """Return how many blocks a worker can hold."""
        return self._capacity[worker]

    def add(self, worker: int, capacity_blocks: int) -> None:
        """Begin to follow a worker that can hold at most `capacity_blocks`."""
        self._workers[worker] = {}
        self._capacity[worker] = max(1, capacity_blocks)
        self._bits[worker] = 1 << worker

    def oldest(self, worker: int, count: int) -> list[int]:
        """Return the engine's hashes of so many blocks of the worker, those first that came first."""
        return list(islice(self._workers[worker], count))

    def block_of(self, worker: int, engine_hash: int) -> int | None:
        """Return our hash of a block of the worker, or None where it is not known."""
        return self._workers[worker].get(engine_hash)

    def store(self, worker: int, engine_hashes: Iterable[int], blocks: Iterable[int]) -> None:
        """Note that `blocks`, named so by the worker's engine, entered its cache."""
        held = self._workers[worker]
        before = len(held)
        masks = self._masks
        bit = self._bits[worker]
        last = with_us = 0
        for engine_hash, block in zip(engine_hashes, blocks, strict=True):
            known = held.get(engine_hash)
            if known == block:
                continue
            if known is not None:
                self.remove(worker, (engine_hash,))
                before -= 1
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
        self._entries += len(held) - before
        # A worker cannot hold more than its capacity: what is over was removed and we were not told.
        if len(held) > self._capacity[worker]:
            self._drop(worker, len(held) - self._capacity[worker], self._capacity[worker] // _AT_ONCE)
        while self._entries > self._limit:
            largest = max(self._workers, key=self.held_by)
            share = self._limit // len(self._workers)
            self._drop(largest, min(self._entries - self._limit, self.held_by(largest)), share // _AT_ONCE)

    def remove(self, worker: int, engine_hashes: Iterable[int]) -> None:
        """Note that blocks left the worker's cache; unknown ones are ignored."""
        held = self._workers[worker]
        before = len(held)
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
        self._entries += len(held) - before

    def clear(self, worker: int) -> None:
        """Note that the worker dropped its whole cache."""
        self.remove(worker, list(self._workers[worker]))

    def forget(self, worker: int) -> None:
        """Stop following the worker; its number may be used again."""
        self.clear(worker)
        del self._workers[worker]
        del self._capacity[worker]
        del self._bits[worker]

    def dump(self, worker: int) -> dict[int, int]:
        """Return everything known of one worker: our hashes by its engine's."""
        return dict(self._workers[worker])

    def restore(self, worker: int, held: Mapping[int, int]) -> None:
        """Make `held` all that is known of one worker; what was known already stays where it is."""
        known = self._workers[worker]
        self.remove(worker, [engine_hash for engine_hash in known if engine_hash not in held])
        self.store(worker, held.keys(), held.values())

    def touch(self, blocks: Iterable[int]) -> None:
        """Note that a prompt of these blocks was routed: they are dropped later than others."""
        self._young.update(blocks)
        if len(self._young) > self._limit // 32:
            self._young, self._old = set(), self._young

    def match(self, blocks: Sequence[int]) -> dict[int, int]:
        """Return, for every worker that holds a beginning of `blocks`, how many of them it holds without a gap."""
        return depths(map(self._masks.get, blocks))

    def _drop(self, worker: int, over: int, at_least: int) -> None:
        """Drop a worker's oldest blocks, but give those routed to lately a second life."""
        held = self._workers[worker]
        count = min(len(held), max(over, at_least, 1))
        spared: dict[int, int] = {}
        victims: list[int] = []
        for engine_hash, block in held.items():
            if (block in self._young or block in self._old) and len(spared) < len(held) - count:
                spared[engine_hash] = block
                continue
            victims.append(engine_hash)
            if len(victims) == count:
                break
        for engine_hash, block in spared.items():
            del held[engine_hash]
            held[engine_hash] = block
        self.remove(worker, victims)
        self.dropped += len(victims)


def depths(masks: Iterator[int | None]) -> dict[int, int]:
    """Return how far every worker's bit goes on, from the first of `masks`."""
    found: dict[int, int] = {}
    holders = next(masks, None) or 0
    depth = 1
    for mask in masks:
        if mask != holders:
            still = holders & mask if mask else 0
            if still != holders:
                spread(found, holders ^ still, depth)
                holders = still
                if not still:
                    break
        depth += 1
    spread(found, holders, depth)
    return found


def spread(found: dict[int, int], workers: int, depth: int) -> None:
    """Note the depth of every worker whose bit is set."""
    while workers:
        lowest = workers & -workers
        found[lowest.bit_length() - 1] = depth
        workers ^= lowest
