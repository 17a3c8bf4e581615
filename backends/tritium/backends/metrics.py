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


@dataclass(slots=True)
class _Family:
    description: str
    kind: MetricKind
    owners: set[str] = field(default_factory=set)


class CustomMetrics:
    """All metrics of all models."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}
        self._metrics: dict[tuple[str, tuple[tuple[str, str], ...]], CustomMetric] = {}

    def __iter__(self) -> Iterator[CustomMetric]:
        """Yield the metrics, those of a family together."""
        return iter(sorted(self._metrics.values(), key=lambda metric: metric.family))

    def define_family(self, owner: str, name: str, description: str, kind: MetricKind) -> None:
        """Note a family; of several descriptions the first one stays.

        Raises:
            ValueError: the family exists with another kind.
        """
        family = self._families.setdefault(name, _Family(description, kind))
        if family.kind is not kind:
            raise ValueError(f"metric family '{name}' is a {family.kind} already, and cannot be a {kind} too")
        family.owners.add(owner)

    def define(self, owner: str, family: str, labels: Mapping[str, str], bounds: Sequence[float] = ()) -> CustomMetric:
        """Return the metric of that family and those labels, made where it is new.

        Raises:
            ValueError: there is no such family.
        """
        shared = self._families.get(family)
        if shared is None:
            raise ValueError(f"there is no metric family '{family}'")
        key = _key(family, labels)
        metric = self._metrics.get(key)
        if metric is None:
            counts = [0] * (len(bounds) + 1)
            metric = CustomMetric(family, shared.description, shared.kind, labels, tuple(bounds), counts)
            self._metrics[key] = metric
        metric.owners.add(owner)
        return metric

    def release(self, owner: str, metric: CustomMetric) -> None:
        """Forget a metric that only `owner` had."""
        metric.owners.discard(owner)
        if not metric.owners:
            self._metrics.pop(_key(metric.family, metric.labels), None)

    def disown(self, owner: str) -> None:
        """Forget the families and metrics that only `owner` had."""
        for metric in list(self._metrics.values()):
            if owner in metric.owners:
                self.release(owner, metric)
        for name, family in list(self._families.items()):
            family.owners.discard(owner)
            if not family.owners:
                del self._families[name]


def _key(family: str, labels: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return family, tuple(sorted(labels.items()))
