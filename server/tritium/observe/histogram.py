"""A histogram as samples, in the order in which Triton writes them: count, sum, cumulative buckets."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from tritium.observe.samples import Kind, Sample, number


class Histogram(Protocol):
    """Upper bounds of buckets, one count more than there are bounds, and the sum of what was observed."""

    @property
    def bounds(self) -> Sequence[float]: ...  # noqa: D102 - fields, named by the class's docstring
    @property
    def counts(self) -> Sequence[int]: ...  # noqa: D102
    @property
    def sum(self) -> float: ...  # noqa: D102


def histogram_samples(family: str, help_text: str, labels: Mapping[str, str], histogram: Histogram) -> Iterator[Sample]:
    """Yield the samples of one histogram."""
    seen = list(accumulate(histogram.counts))
    yield Sample(family, seen[-1], labels, Kind.HISTOGRAM, help_text, suffix="_count")
    yield Sample(family, histogram.sum, labels, Kind.HISTOGRAM, help_text, suffix="_sum")
    for bound, count in zip((*histogram.bounds, float("inf")), seen, strict=True):
        yield Sample(family, count, {**labels, "le": number(bound)}, Kind.HISTOGRAM, help_text, suffix="_bucket")
