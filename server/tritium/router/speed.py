"""How fast each worker prefills beside the others, learnt from its first tokens.

    expected_s = a + b * blocks        one line through what all workers took lately, by least squares
    slowness   = what this worker took / what the line expects of it

A worker that finds more in its cache computes less a request; the line takes that out, so that it does not pass for
a slow one. Small differences are noise and count as none.
"""

from dataclasses import dataclass

KEEP = 0.98
"""How much of what was learnt stays when a first token comes; about the last fifty count."""

ENOUGH = 8
"""First tokens of a worker before it is judged."""

NOISE = 0.5
"""A worker that takes up to so much more, or as much less, counts as one like the others."""

MOST = 8.0
"""What a worker's slowness may be at most, and the inverse at least: nobody is written off for one long pause."""

ROUND = 64
"""First tokens after which all are judged anew, and what is known of each fades: who gets no work is tried again."""

FADE = 0.8
"""How much of what is known of a worker stays after a round."""


@dataclass(slots=True)
class _Sums:
    count: float = 0.0
    blocks: float = 0.0
    seconds: float = 0.0
    blocks_squared: float = 0.0
    product: float = 0.0

    def add(self, blocks: float, seconds: float) -> None:
        self.count += 1
        self.blocks += blocks
        self.seconds += seconds
        self.blocks_squared += blocks * blocks
        self.product += blocks * seconds

    def fade(self, keep: float) -> None:
        self.count *= keep
        self.blocks *= keep
        self.seconds *= keep
        self.blocks_squared *= keep
        self.product *= keep


class Pace:
    """What all workers took for their prompts lately, and each of them."""

    def __init__(self) -> None:
        self._all = _Sums()
        self._each: dict[str, _Sums] = {}
        self._learnt = 0

    def forget(self, worker: str) -> None:
        """Forget a worker: what comes back under its name may be another machine."""
        self._each.pop(worker, None)

    def learn(self, worker: str, blocks: int, seconds: float) -> bool:
        """Note that a worker took so long to a first token, with so many blocks to compute until then.

        Return whether a round is over, so that every worker's slowness is to be asked again.
        """
        own = self._each.setdefault(worker, _Sums())
        for sums, keep in ((own, KEEP), (self._all, 1 - (1 - KEEP) / len(self._each))):
            sums.fade(keep)
            sums.add(blocks, seconds)
        self._learnt += 1
        if self._learnt < ROUND * len(self._each):
            return False
        self._learnt = 0
        for sums in self._each.values():
            sums.fade(FADE)
        return True

    def slowness(self, worker: str) -> float:
        """Return how many times as long as expected the worker takes; 1.0 where too little is known."""
        own = self._each.get(worker)
        if own is None or own.count < ENOUGH or len(self._each) < 2:
            return 1.0
        base_s, block_s = self._line()
        expected_s = base_s * own.count + block_s * own.blocks
        if expected_s <= 0:
            return 1.0
        ratio = min(MOST, max(1 / MOST, own.seconds / expected_s))
        return 1.0 if 1 / (1 + NOISE) <= ratio <= 1 + NOISE else ratio

    def _line(self) -> tuple[float, float]:
        """Return seconds a prompt and seconds a block; a line that falls or begins below nothing is no line."""
        sums = self._all
        spread = sums.count * sums.blocks_squared - sums.blocks * sums.blocks
        if spread > 0:
            block_s = (sums.count * sums.product - sums.blocks * sums.seconds) / spread
            base_s = (sums.seconds - block_s * sums.blocks) / sums.count
            if block_s >= 0 and base_s >= 0:
                return base_s, block_s
        return sums.seconds / sums.count, 0.0
