"""A model's own metrics. The server keeps the numbers; the model keeps a copy, so that `value` never waits."""

import threading
from enum import Enum
from typing import ClassVar

from tritium.compat.pb_utils.errors import TritonModelException
from tritium.compat.pb_utils.runtime import runtime


class MetricKind(Enum):
    """Kinds, by their Prometheus names."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric:
    """One metric of a family, told apart by its labels."""

    def __init__(self, family: "MetricFamily", labels: dict[str, str], buckets: list[float]) -> None:
        self._kind = family.kind
        self._value = 0.0
        self._lock = threading.Lock()
        self._runtime = runtime()
        self._number = self._runtime.define_metric(family.name, family.description, family.kind.value, labels, buckets)

    def increment(self, value: float) -> None:
        """Add to a counter or gauge."""
        self._refuse(MetricKind.HISTOGRAM, "increment")
        if self._kind is MetricKind.COUNTER and value < 0:
            raise TritonModelException("Failed to increment metric value: counters can only go up")
        with self._lock:
            self._value += value
            self._runtime.change_metric(self._number, "increment", float(value))

    def set(self, value: float) -> None:
        """Set a gauge."""
        self._refuse(MetricKind.HISTOGRAM, "set")
        self._refuse(MetricKind.COUNTER, "set")
        with self._lock:
            self._value = float(value)
            self._runtime.change_metric(self._number, "set", float(value))

    def observe(self, value: float) -> None:
        """Count a value into a histogram."""
        if self._kind is not MetricKind.HISTOGRAM:
            raise TritonModelException(f"Failed to observe metric value: a {self._kind.value} has no observe()")
        self._runtime.change_metric(self._number, "observe", float(value))

    def value(self) -> float:
        """Return what this model has reported of a counter or gauge."""
        self._refuse(MetricKind.HISTOGRAM, "get")
        return self._value

    def _refuse(self, kind: MetricKind, verb: str) -> None:
        if self._kind is kind:
            raise TritonModelException(f"Failed to {verb} metric value: not possible for a {kind.value}")


class MetricFamily:
    """A name, a description and a kind, shared by metrics with different labels."""

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        if not isinstance(kind, MetricKind):
            raise TypeError(f"kind must be MetricFamily.COUNTER, GAUGE or HISTOGRAM, found {kind!r}")
        self.name = name
        self.description = description
        self.kind = kind

    def Metric(  # noqa: N802  # Triton's name
        self, labels: dict[str, str] | None = None, buckets: list[float] | None = None
    ) -> Metric:
        """Make a metric of this family.

        Raises:
            TritonModelException: a histogram without buckets, buckets that do not rise, or buckets elsewhere.
        """
        labels = labels or {}
        if not all(isinstance(text, str) for pair in labels.items() for text in pair):
            raise TritonModelException(f"labels of metric '{self.name}' must map str to str")
        histogram = self.kind is MetricKind.HISTOGRAM
        if bool(buckets) != histogram:
            needs = "needs buckets" if histogram else "takes no buckets"
            raise TritonModelException(f"Failed to create metric: a {self.kind.value} {needs}")
        if any(low >= high for low, high in zip(buckets or [], (buckets or [])[1:], strict=False)):
            raise TritonModelException("Failed to create metric: buckets must rise")
        return Metric(self, dict(labels), [float(bound) for bound in buckets or []])
