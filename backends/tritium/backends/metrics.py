"""Metrics that models define for themselves: counters, gauges and histograms, by family and labels.

Backends write them, the metrics endpoint reads them. A metric lives as long as one of its owners: an instance that
restarts goes on counting where it was, and an unloaded model's metrics are gone.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class MetricKind(StrEnum):
    """Kinds, as Prometheus names them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(slots=True)
class CustomMetric:
    """One metric. `bounds` and `counts` (one more, for what exceeds the last bound) are those of a histogram."""

    family: str
    description: str
    kind: MetricKind
    labels: Mapping[str, str]
    bounds: Sequence[float] = ()
    counts: list[int] = field(default_factory=list)
    value: float = 0.0
    """The sum of what was observed, for a histogram."""
    owners: set[str] = field(default_factory=set)

    def observe(self, value: float) -> None:
        """Count a value into its bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.value += value


class CustomMetrics:
    """All metrics of all models."""

    def __init__(self) -> None:
        self._metrics: dict[tuple[str, tuple[tuple[str, str], ...]], CustomMetric] = {}

    def __iter__(self) -> Iterator[CustomMetric]:
        """Yield the metrics, those of a family together."""
        return iter(sorted(self._metrics.values(), key=lambda metric: metric.family))

    def define(
        self,
        owner: str,
        family: str,
        description: str,
        kind: MetricKind,
        labels: Mapping[str, str],
        bounds: Sequence[float] = (),
    ) -> CustomMetric:
        """Return the metric of that family and those labels, made where it is new.

        Raises:
            ValueError: the family exists with another kind.
        """
        other = next((metric for metric in self._metrics.values() if metric.family == family), None)
        if other is not None and other.kind is not kind:
            raise ValueError(f"metric family '{family}' is a {other.kind} already, and cannot be a {kind} too")
        key = (family, tuple(sorted(labels.items())))
        metric = self._metrics.get(key)
        if metric is None:
            counts = [0] * (len(bounds) + 1)
            metric = self._metrics[key] = CustomMetric(family, description, kind, labels, tuple(bounds), counts)
        metric.owners.add(owner)
        return metric

    def disown(self, owner: str) -> None:
        """Forget the metrics that only `owner` had."""
        for key, metric in list(self._metrics.items()):
            metric.owners.discard(owner)
            if not metric.owners:
                del self._metrics[key]
