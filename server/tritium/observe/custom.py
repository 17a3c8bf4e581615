"""Metrics that models define for themselves, as samples.

Backends keep them (tritium.backends.metrics); this file knows them only by their shape, for rooms import one way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tritium.observe.histogram import histogram_samples
from tritium.observe.samples import Kind, MetricSource, Sample


class CustomMetric(Protocol):
    """A counter or gauge with its `value`; a histogram with one count a bucket and the sum as its `value`."""

    @property
    def family(self) -> str: ...  # noqa: D102 - fields, named by the class's docstring
    @property
    def description(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def labels(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def bounds(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def counts(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def value(self) -> float: ...  # noqa: D102


def custom_metrics(metrics: Iterable[CustomMetric]) -> MetricSource:
    """Return the source of whatever is in `metrics` when it is asked."""

    def samples() -> Iterator[Sample]:
        for metric in metrics:
            if metric.kind == Kind.HISTOGRAM:
                histogram = _Histogram(metric.bounds, metric.counts, metric.value)
                yield from histogram_samples(metric.family, metric.description, metric.labels, histogram)
            else:
                yield Sample(metric.family, metric.value, metric.labels, Kind(metric.kind), metric.description)

    return samples


@dataclass(frozen=True, slots=True)
class _Histogram:
    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float
