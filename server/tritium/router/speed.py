"""How fast each worker prefills beside the others, learnt from its first tokens.

    expected_s = a + b * blocks        one line through what all workers took lately, by least squares
    slowness   = what this worker took / what the line expects of it

A worker that finds more in its cache computes less a request; the line takes that out, so that it does not pass for
a slow one. Small differences are noise and count as none.
"""

from tritium.router.line import Line

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


class Pace:
    """What all workers took for their prompts lately, and each of them."""

    def __init__(self) -> None:
        self._all = Line()
        self._each: dict[str, Line] = {}
        self._learnt = 0

    def forget(self, worker: str) -> None:
        """Forget a worker: what comes back under its name may be another machine."""
        self._each.pop(worker, None)

    def learn(self, worker: str, blocks: int, seconds: float) -> bool:
        """Note that a worker took so long to a first token, with so many blocks to compute until then.

        Return whether a round is over, so that every worker's slowness is to be asked again.
        """
        own = self._each.setdefault(worker, Line())
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
        line = self._all.fit()
        expected_s = line.base_s * own.count + line.slope_s * own.amounts
        if expected_s <= 0:
            return 1.0
        ratio = min(MOST, max(1 / MOST, own.seconds / expected_s))
        return 1.0 if 1 / (1 + NOISE) <= ratio <= 1 + NOISE else ratio

    def expected_s(self, blocks: float) -> float | None:
        """Return how long a first token takes with so many blocks to compute; None where little is known."""
        return self._all.fit().at(blocks) if self._all.count >= ENOUGH else None
