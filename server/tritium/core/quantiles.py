"""Quantiles of the numbers of the last minute, in little memory and little time.

A `Sketch` keeps only as many numbers as the asked quantiles need for their errors; each stands for some smaller ones
that were let go. Numbers are sorted and thinned out in batches, batches are merged into the sketch of their twelve
seconds, and a question is answered from the last five of these.
Source: Cormode, Korn, Muthukrishnan, Srivastava: Effective Computation of Biased Quantiles over Data Streams, 2005;
merging: Greenwald, Khanna: Power-Conserving Computation of Order-Statistics over Sensor Networks, 2004.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, NamedTuple

WINDOW_NS: Final = 60 * 10**9
_PARTS: Final = 5
_PART_NS: Final = WINDOW_NS // _PARTS
_BATCH: Final = 4000


@dataclass(frozen=True, slots=True)
class Target:
    """A quantile (0.9: nine in ten are no larger) and by how much its rank may be wrong, as a share of the count."""

    quantile: float
    error: float


class _Entry(NamedTuple):
    """A kept number: the one before it has a rank lower by at least `stands_for`, and at most by `slack` more."""

    number: float
    stands_for: int
    slack: int


class Sketch:
    """What is kept of some numbers; never changed once made."""

    __slots__ = ("count", "entries", "targets")

    def __init__(self, targets: Sequence[Target], entries: list[_Entry], count: int) -> None:
        self.targets = targets
        self.entries = entries
        self.count = count

    @classmethod
    def of(cls, targets: Sequence[Target], numbers: Sequence[float]) -> "Sketch":
        """Thin out numbers in ascending order; the smallest and the largest stay."""
        sketch = cls(targets, [], len(numbers))
        at, last = 0, len(numbers) - 1
        while at <= last:
            before = sketch.entries[-1] if sketch.entries else None
            taken = 1 if before is None else min(max(1, math.floor(sketch.allowed(at))), last - at + 1)
            at += taken - 1
            sketch.entries.append(_Entry(numbers[at], taken, 0))
            at += 1
        return sketch

    def merged(self, other: "Sketch") -> "Sketch":
        """Return the sketch of the numbers of both."""
        if not self.count:
            return other
        if not other.count:
            return self
        entries: list[_Entry] = []
        mine, theirs = self.entries, other.entries
        i = j = 0
        while i < len(mine) and j < len(theirs):
            if mine[i].number <= theirs[j].number:
                entries.append(_between(mine[i], theirs[j]))
                i += 1
            else:
                entries.append(_between(theirs[j], mine[i]))
                j += 1
        entries += mine[i:] or theirs[j:]
        return _thinned(Sketch(self.targets, entries, self.count + other.count))

    def value(self, quantile: float) -> float:
        """Return the quantile; not a number where there are none."""
        if not self.entries:
            return math.nan
        wanted = max(1, math.ceil(quantile * self.count))
        bound = wanted + self.allowed(wanted) / 2
        rank = 0
        before = self.entries[0].number
        for number, stands_for, slack in self.entries:
            rank += stands_for
            if rank + slack > bound:
                return before
            before = number
        return before

    def allowed(self, rank: float) -> float:
        """Return by how much the rank of a number may be wrong, twice over."""
        count = self.count
        least = float(count)
        for target in self.targets:
            quantile = target.quantile
            if rank <= quantile * count:
                allowed = 2 * target.error * (count - rank) / (1 - quantile) if quantile < 1 else 0.0
            else:
                allowed = 2 * target.error * rank / quantile if quantile else 0.0
            least = min(least, allowed)
        return least


def _thinned(sketch: Sketch) -> Sketch:
    """Let numbers stand for their smaller neighbours as far as the errors allow it; the ends stay."""
    first, *between, last = sketch.entries
    kept = [last]
    rank = sketch.count - last.stands_for
    for entry in reversed(between):
        rank -= entry.stands_for
        above = kept[-1]
        together = entry.stands_for + above.stands_for
        if len(kept) > 1 and together + above.slack <= sketch.allowed(rank):
            kept[-1] = _Entry(above.number, together, above.slack)
        else:
            kept.append(entry)
    kept.append(first)
    kept.reverse()
    return Sketch(sketch.targets, kept, sketch.count)


def _between(entry: _Entry, next_larger: _Entry) -> _Entry:
    """Return an entry among those of another sketch: some that the next larger one stands for may be smaller."""
    number, stands_for, slack = entry
    return _Entry(number, stands_for, slack + next_larger.stands_for + next_larger.slack - 1)


class RecentQuantiles:
    """Count and sum of all numbers, and quantiles of those of the last minute."""

    __slots__ = ("_ends_ns", "_parts", "_pending", "count", "sum", "targets")

    def __init__(self, targets: Sequence[Target], now_ns: int) -> None:
        self.targets = targets
        self.count = 0
        self.sum = 0.0
        self._pending: list[float] = []
        self._parts = deque([self._empty()] * _PARTS, maxlen=_PARTS)
        self._ends_ns = now_ns + _PART_NS

    def observe(self, number: float, now_ns: int) -> None:
        """Add a number."""
        self.count += 1
        self.sum += number
        if now_ns >= self._ends_ns:
            self._turn(now_ns)
        self._pending.append(number)
        if len(self._pending) >= _BATCH:
            self._settle()

    def values(self, now_ns: int) -> list[float]:
        """Return the quantiles in the order of the targets."""
        if now_ns >= self._ends_ns:
            self._turn(now_ns)
        self._settle()
        recent = reduce(Sketch.merged, self._parts)
        return [recent.value(target.quantile) for target in self.targets]

    def _empty(self) -> Sketch:
        return Sketch(self.targets, [], 0)

    def _settle(self) -> None:
        """Put what waits into the sketch of the seconds it came in."""
        if self._pending:
            self._parts[-1] = self._parts[-1].merged(Sketch.of(self.targets, sorted(self._pending)))
            self._pending = []

    def _turn(self, now_ns: int) -> None:
        """Begin a new part, as often as is due; the oldest is forgotten."""
        self._settle()
        turns = 1 + (now_ns - self._ends_ns) // _PART_NS
        self._parts.extend([self._empty()] * min(turns, _PARTS))
        self._ends_ns += turns * _PART_NS
