"""How long the same requests took on two servers."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of so many requests a side, one at a time; in seconds."""

    requests: int
    old_median_s: float
    new_median_s: float
    old_p99_s: float
    new_p99_s: float

    @property
    def ratio(self) -> float:
        """Return the new median over the old one: 0.5 is twice as fast."""
        return self.new_median_s / self.old_median_s if self.old_median_s else 1.0


def latency(old: Sequence[float], new: Sequence[float]) -> Latency:
    """Sum up two rows of times, neither empty; p99 is the nearest rank, of few requests the slowest."""
    return Latency(len(old), median(old), median(new), _p99(old), _p99(new))


def _p99(times: Sequence[float]) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
