"""Which blocks the tiers of an engine hold, as its worker processes last told; every rank holds a part of each block.

The scheduler asks this instead of the stores, which live in other processes. It lags behind them by a step: a block
that has gone meanwhile fails to load, and vLLM computes it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tritium.kv.block import Tier

_BITS = {tier: 1 << place for place, tier in enumerate(Tier)}
_FASTEST = [None, *(next(tier for tier in Tier if bits & _BITS[tier]) for bits in range(1, 1 << len(Tier)))]


@dataclass(frozen=True, slots=True)
class Change:
    """A block that came to a tier, or left it."""

    block: bytes
    """The tenant's digest and vLLM's hash: see `names_of`."""
    tier: Tier
    stored: bool


class Holdings:
    """The tiers of each block, by its name."""

    def __init__(self, ranks: int) -> None:
        self._ranks: list[dict[bytes, int]] = [{} for _ in range(ranks)]

    def __len__(self) -> int:
        """Return how many blocks the first rank holds a part of."""
        return len(self._ranks[0])

    def __contains__(self, block: bytes) -> bool:
        """Return whether every rank holds its part."""
        return all(block in held for held in self._ranks)

    def take(self, rank: int, changes: Iterable[Change]) -> None:
        """Take in what one rank tells."""
        held = self._ranks[rank]
        for change in changes:
            bits = held.get(change.block, 0)
            bits = bits | _BITS[change.tier] if change.stored else bits & ~_BITS[change.tier]
            if bits:
                held[change.block] = bits
            else:
                held.pop(change.block, None)

    def tiers(self, block: bytes) -> list[Tier]:
        """Return the tiers that hold a block, the fastest first, by the first rank."""
        bits = self._ranks[0].get(block, 0)
        return [tier for tier in Tier if bits & _BITS[tier]]

    def leading(self, hashes: Sequence[bytes]) -> list[Tier]:
        """Return from which tier each of the leading blocks comes, up to the first that some rank lacks."""
        order = list(Tier)
        found = []
        for block in hashes:
            fastest = [_FASTEST[held.get(block, 0)] for held in self._ranks]
            parts = [tier for tier in fastest if tier is not None]
            if len(parts) < len(fastest):
                break
            found.append(max(parts, key=order.index))  # it arrives with its slowest part
        return found
