"""Whether to fetch what the tiers hold of a prompt or to compute it again, from what both have been seen to take.

    fetch the first n blocks, compute the rest      expected(n) = sum over tiers (fixed + bytes / speed) + prefill(rest)
    compute everything                              recompute   = prefill(prompt)

Taken is the n of the least expected time, with the tiers' times raised by how far off they were of late. A tier that
was never measured is not loaded from; the store measures tiers beside the requests, so that no prompt pays for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tritium.kv.block import Tier
from tritium.kv.speed import Line


@dataclass(frozen=True, slots=True)
class Advice:
    """How many leading blocks to load, and why."""

    blocks: int
    expected_s: float
    recompute_s: float
    because: str

    @property
    def onboard(self) -> bool:
        """Return whether anything should be loaded."""
        return self.blocks > 0


class Advisor:
    """What loads and prefills have taken so far, and what follows from it."""

    def __init__(self, block_bytes: int, block_tokens: int) -> None:
        self._block_bytes = block_bytes
        self._block_tokens = block_tokens
        self.prefill = Line()
        self.loads: dict[Tier, Line] = {tier: Line() for tier in Tier}

    def learn_prefill(self, tokens: int, seconds: float) -> None:
        """Take in how long computing a prompt of so many tokens took."""
        self.prefill.learn(tokens, seconds)

    def learn_load(self, tier: Tier, size_bytes: int, seconds: float) -> None:
        """Take in how long loading so many bytes at once took."""
        self.loads[tier].learn(size_bytes, seconds)

    def fastest_first(self) -> list[Tier]:
        """Return the tiers by what a block from each takes; one not measured is taken for as slow as those before."""
        took: dict[Tier, float] = {}
        slowest = 0.0
        for tier in Tier:
            line = self.loads[tier]
            took[tier] = line.at(self._block_bytes) if line.known else slowest
            slowest = max(slowest, took[tier])
        # The host's memory is nearest, however a hiccup made it look.
        return sorted(Tier, key=lambda tier: (tier is not Tier.HOST, took[tier]))

    def advise(self, prompt_tokens: int, tiers: Sequence[Tier]) -> Advice:
        """Return how many of the leading blocks, held in these tiers, are worth loading."""
        if not tiers:
            return Advice(0, self.prefill.at(prompt_tokens), self.prefill.at(prompt_tokens), "nothing is held")
        if not self.prefill.known:
            return Advice(len(tiers), 0.0, 0.0, "how long a prefill takes is not known yet")
        recompute = self.prefill.at(prompt_tokens)
        best = Advice(0, recompute, recompute, "")
        for blocks in self._stops(tiers):
            expected = self._expected(prompt_tokens, tiers[:blocks])
            if expected < best.expected_s:
                best = Advice(blocks, expected, recompute, "")
        names = ", ".join(f"{tiers[: best.blocks].count(tier)} from {tier}" for tier in Tier if tier in tiers)
        if best.blocks:
            because = f"{names}: {best.expected_s * 1e3:.1f} ms against {recompute * 1e3:.1f} ms of computing"
        elif unknown := [tier for tier in Tier if tier in tiers and not self.loads[tier].known]:
            because = f"{', '.join(unknown)} not measured yet"
        else:
            all_s = self._expected(prompt_tokens, tiers)
            because = f"{len(tiers)} blocks would take {all_s * 1e3:.1f} ms, computing {recompute * 1e3:.1f} ms"
        return Advice(best.blocks, best.expected_s, recompute, because)

    def _stops(self, tiers: Sequence[Tier]) -> list[int]:
        """Return after how many blocks loading may reasonably end: where the tier changes, and with the last."""
        changes = [i for i in range(1, len(tiers)) if tiers[i] != tiers[i - 1]]
        return [*changes, len(tiers)]

    def _expected(self, prompt_tokens: int, tiers: Sequence[Tier]) -> float:
        seconds = self.prefill.at(max(1, prompt_tokens - len(tiers) * self._block_tokens))
        for tier in Tier:
            if blocks := tiers.count(tier):
                line = self.loads[tier]
                seconds += line.at(blocks * self._block_bytes) * (1 + line.spread) if line.known else float("inf")
        return seconds
