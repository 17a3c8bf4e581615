"""Which worker holds which block, and how far from its processor: an index a tier.

    prompt:   1 2 3 4 5 6 7 8        a worker holds 1-3 on the device, 4-5 on the host, 6 on disk
    depths:   device 3, host 5, disk 6

An engine reuses what it holds without a gap, fetching what lies lower. So a tier's depth counts what this tier and
those above it hold together; a block below a gap counts nowhere.
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, compress, islice, repeat

from tritium.router.blocks import hash_blocks
from tritium.router.index import MOST_BLOCKS, KvIndex, spread


class Tier(StrEnum):
    """Where a block lies."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Depths:
    """How many leading blocks of a prompt each worker holds, by its number, with each tier added.

    A worker stands in `host`, `disk` and `object` only where it goes deeper with them.
    """

    device: dict[int, int] = field(default_factory=dict)
    host: dict[int, int] = field(default_factory=dict)
    disk: dict[int, int] = field(default_factory=dict)
    object: dict[int, int] = field(default_factory=dict)

    def at(self, worker: int) -> "Held":
        """Return what one worker holds."""
        device = self.device.get(worker, 0)
        host = max(device, self.host.get(worker, 0))
        disk = max(host, self.disk.get(worker, 0))
        return Held(device, host - device, disk - host, max(disk, self.object.get(worker, 0)) - disk)


@dataclass(frozen=True, slots=True)
class Held:
    """How many leading blocks of a prompt a worker holds, by tier."""

    device: int = 0
    host: int = 0
    disk: int = 0
    object: int = 0

    @property
    def blocks(self) -> int:
        """Return how many blocks need not be computed."""
        return self.device + self.host + self.disk + self.object


class TieredIndex:
    """The blocks of all workers in all tiers, by the rules of `KvIndex`."""

    def __init__(self, limit: int = MOST_BLOCKS) -> None:
        self.device = KvIndex(limit)
        self.host = KvIndex(limit)
        self.disk = KvIndex(limit)
        self.object = KvIndex(limit)
        self._limit = limit
        self.orphans = 0
        """Stored blocks dropped because what comes before them is unknown here."""

    def __len__(self) -> int:
        """Return the number of distinct blocks, counted in each tier they lie in."""
        return sum(map(len, self.tiers.values()))

    @property
    def dropped(self) -> int:
        """Return how many blocks were dropped because a worker's share or a tier was full."""
        return sum(index.dropped for index in self.tiers.values())

    @property
    def tiers(self) -> Mapping[Tier, KvIndex]:
        """Return the index of every tier, the fastest first."""
        return {Tier.DEVICE: self.device, Tier.HOST: self.host, Tier.DISK: self.disk, Tier.OBJECT: self.object}

    def held_by(self, worker: int) -> int:
        """Return how many blocks a worker holds on its device."""
        return self.device.held_by(worker)

    def add(self, worker: int, capacity_blocks: int) -> None:
        """Begin to follow a worker; the sizes of its lower tiers are not known, only `limit` bounds them."""
        self.device.add(worker, capacity_blocks)
        self.host.add(worker, self._limit)
        self.disk.add(worker, self._limit)
        self.object.add(worker, self._limit)

    def block_of(self, worker: int, engine_hash: int) -> int | None:
        """Return our hash of a block of the worker, in whichever tier it lies."""
        block = self.device.block_of(worker, engine_hash)
        if block is None:
            for index in (self.host, self.disk, self.object):
                if index and (block := index.block_of(worker, engine_hash)) is not None:
                    break
        return block

    def name(
        self,
        worker: int,
        engine_hashes: Sequence[int],
        parent: int | None,
        token_ids: Sequence[int],
        block_tokens: int,
        *,
        seed: int = 0,
        media: Mapping[int, str] | None = None,
    ) -> list[int]:
        """Return our hashes of blocks that a worker stored after `parent`; none, and orphans, where they have none.

        That is so where what comes before them is not known here, and with blocks of another size (a second cache
        group of a hybrid model), which say nothing about these.
        """
        before = seed if parent is None else self.block_of(worker, parent)
        if before is not None:
            blocks = hash_blocks(token_ids, block_tokens, before, media=media)
            if len(blocks) == len(engine_hashes):
                return blocks
        self.orphans += len(engine_hashes)
        return []

    def known(self, worker: int, engine_hashes: Sequence[int]) -> dict[int, int]:
        """Return our hashes by the engine's, of blocks whose tokens were told before; the others are orphans."""
        found = {name: block for name in engine_hashes if (block := self.block_of(worker, name)) is not None}
        self.orphans += len(engine_hashes) - len(found)
        return found

    def clear(self, worker: int) -> None:
        """Note that the worker dropped all it held."""
        for index in self.tiers.values():
            index.clear(worker)

    def forget(self, worker: int) -> None:
        """Stop following the worker; its number may be used again."""
        for index in self.tiers.values():
            index.forget(worker)

    def touch(self, blocks: Sequence[int]) -> None:
        """Note that a prompt of these blocks was routed: they are dropped later than others."""
        self.device.touch(blocks)
        if self.host:
            self.host.touch(blocks)
        if self.disk:
            self.disk.touch(blocks)
        if self.object:
            self.object.touch(blocks)

    def match(self, blocks: Sequence[int]) -> Depths:
        """Return how much of a prompt every worker holds, tier by tier."""
        if not self.host and not self.disk and not self.object:
            return Depths(self.device.match(blocks))
        tiers: tuple[KvIndex, ...] = (self.device, self.host, self.disk, self.object)
        if not self.object:
            tiers = tiers[:3] if self.disk else tiers[:2]
        rows = list(zip(*(map(tier.masks.get, blocks, repeat(0)) for tier in tiers), strict=True))
        return Depths(*_depths(rows, len(tiers)))


def _depths(rows: Sequence[tuple[int, ...]], tiers: int) -> list[dict[int, int]]:
    """Return by tier how far every worker's bit goes on in it and those above; only where that is further than above.

    A row has a block's masks, tier by tier. Most rows are like the one before; those that are not are found in C.
    """
    found: list[dict[int, int]] = [{} for _ in range(tiers)]
    if not rows:
        return found
    holders = list(accumulate(rows[0], operator.or_))
    for depth in compress(range(1, len(rows)), map(operator.ne, islice(rows, 1, None), rows)):
        held = above = 0
        for tier, mask in enumerate(rows[depth]):
            held |= mask
            holding = holders[tier]
            still = holding & held
            if still == holding:
                above = 0
                continue
            gone = holding ^ still
            spread(found[tier], gone & ~above if above else gone, depth)
            holders[tier] = still
            above = gone
        if not holders[-1]:
            return found
    above = 0
    for tier, left in enumerate(holders):
        spread(found[tier], left & ~above, len(rows))
        above = left
    return found
