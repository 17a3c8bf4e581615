"""What a worker's engine holds, named by the hashes that fronts route by: the truth that heals whoever missed events.

    engine's events -> CacheMirror.take -> CacheChanged number 1, 2, 3, ...   (told on)
                                    dump -> all of it, and the number of the last  (to who starts, or has missed some)

Named once, here: a front need not hash, cannot meet a block whose parent it has missed, and sees no tokens of prompts.
"""

from collections.abc import Iterable, Sequence

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent
from tritium.cluster.frames import CacheChanged, Change, Emptied, Entered, Left
from tritium.router.blocks import seed_of
from tritium.router.dump import Dump, encode
from tritium.router.tiers import Depths, Tier, TieredIndex

TIERS = {tier.value: tier for tier in Tier}
"""Blocks that lie elsewhere ("other") are nobody's."""

_SELF = 0
"""The only worker of a mirror's index."""

_AT_ONCE = 64
"""Dropping goes by so large a part of the capacity: the front of a dict is dear to visit often."""


class CacheMirror:
    """The blocks of one engine.

    It holds no more on the device than the engine can. What goes beyond that was removed unheard, so the oldest go, and
    are told as gone.
    """

    def __init__(self, block_tokens: int, capacity_blocks: int) -> None:
        self.last = 0
        """The number of the last change that was told."""
        self._block_tokens = block_tokens
        self._capacity = max(1, capacity_blocks)
        self._index = TieredIndex()
        self._index.add(_SELF, self._capacity)

    @property
    def orphans(self) -> int:
        """Return how many stored blocks have no name here, because what comes before them has none."""
        return self._index.orphans

    def take(self, events: Iterable[KvEvent]) -> CacheChanged | None:
        """Take in what the engine says, and return what is to be told of it; None where that is nothing."""
        changes: list[Change] = []
        for event in events:
            match event:
                case BlocksStored(tier=tier) if tier in TIERS:
                    changes += self._store(event, TIERS[tier])
                case BlocksRemoved(tier=tier) if tier in TIERS:
                    changes += self._remove(event.hashes, TIERS[tier])
                case CacheCleared():
                    self._index.clear(_SELF)
                    changes.append(Emptied())
        if not changes:
            return None
        self.last += 1
        return CacheChanged(self.last, changes)

    def dump(self) -> bytes:
        """Return all blocks, tier by tier, with the number of the last change that is in it."""
        tiers = {}
        for tier, index in self._index.tiers.items():
            blocks = dict.fromkeys(index.dump(_SELF).values())
            tiers[tier] = {block: block for block in blocks}
        return encode(Dump(self._block_tokens, tiers, self.last))

    def held(self, blocks: Sequence[int]) -> int:
        """Return how many leading blocks of a prompt the engine holds, in whichever tier."""
        depths: Depths = self._index.match(blocks)
        return depths.at(_SELF).blocks

    def _store(self, event: BlocksStored, tier: Tier) -> list[Change]:
        index = self._index.tiers[tier]
        if event.token_ids:
            names = event.hashes
            blocks = self._index.name(
                _SELF,
                names,
                event.parent,
                event.token_ids,
                self._block_tokens,
                seed=seed_of(salt=event.salt, lora=event.lora),
                media=event.media,
            )
        else:
            # Copied from another tier: the engine does not repeat what is in them.
            known = self._index.known(_SELF, event.hashes)
            names, blocks = list(known), list(known.values())
        if not blocks:
            return []
        renamed = [was for name in names if (was := index.block_of(_SELF, name)) is not None]
        changes = self._make_room(tier, len(blocks) - len(renamed))
        fresh = [block for block in blocks if block not in index.masks]
        index.store(_SELF, names, blocks)
        if gone := [block for block in renamed if block not in index.masks]:
            changes.append(Left(gone, tier.value))
        if fresh:
            changes.append(Entered(fresh, tier.value))
        return changes

    def _remove(self, names: Sequence[int], tier: Tier) -> list[Change]:
        index = self._index.tiers[tier]
        blocks = [block for name in names if (block := index.block_of(_SELF, name)) is not None]
        index.remove(_SELF, names)
        gone = [block for block in blocks if block not in index.masks]
        return [Left(gone, tier.value)] if gone else []

    def _make_room(self, tier: Tier, more: int) -> list[Change]:
        """Drop the oldest blocks of the device where the engine cannot hold them beside so many more."""
        index = self._index.device
        over = index.held_by(_SELF) + more - self._capacity
        if tier is not Tier.DEVICE or over <= 0:
            return []
        return self._remove(index.oldest(_SELF, max(over, self._capacity // _AT_ONCE)), tier)
