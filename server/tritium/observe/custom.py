"""Metrics that models define for themselves, as samples.

Backends keep them (tritium.backends.metrics); this file knows them only by their shape, for rooms import one way.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from tritium.observe.samples import Kind, MetricSource, Sample, number


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
                yield from _histogram(metric)
            else:
                yield Sample(metric.family, metric.value, metric.labels, Kind(metric.kind), metric.description)

    return samples


def _histogram(metric: CustomMetric) -> Iterator[Sample]:
    def sample(value: float, suffix: str, **labels: str) -> Sample:
        return Sample(
            metric.family, value, {**metric.labels, **labels}, Kind.HISTOGRAM, metric.description, suffix=suffix
        )

    seen = 0
    for bound, count in zip((*metric.bounds, float("inf")), metric.counts, strict=True):
        seen += count
        yield sample(seen, "_bucket", le=number(bound))
    yield sample(metric.value, "_sum")
    yield sample(seen, "_count")
