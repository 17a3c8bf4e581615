"""A model's own metrics. The server keeps the numbers, one for every name and set of labels, whoever reports them.

A metric is there as long as a Metric object of some model refers to it, and a Metric works as long as its family.
"""

import contextlib
import itertools
import weakref
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
        self._family = weakref.ref(family)
        self._kind = family.kind
        self._runtime = runtime()
        self._number = 0
        try:
            self._number = self._runtime.define_metric(family.name, family.kind.value, labels, buckets)
        except TritonModelException as error:
            raise TritonModelException(f"Error when creating Metric: {error}") from None

    def __del__(self) -> None:
        if self._number:
            with contextlib.suppress(OSError):  # the server may be gone first
                self._runtime.drop_metric(self._number)

    def increment(self, value: float) -> None:
        """Add to a counter or gauge.

        Raises:
            TritonModelException: a histogram, a negative value for a counter, or a family that is gone.
        """
        self._check("increment", MetricKind.COUNTER, MetricKind.GAUGE)
        if self._kind is MetricKind.COUNTER and value < 0:
            raise TritonModelException(
                "Failed to increment metric value: TRITONSERVER_METRIC_KIND_COUNTER can only be incremented "
                "monotonically by non-negative values."
            )
        self._runtime.change_metric(self._number, "increment", float(value))

    def set(self, value: float) -> None:
        """Set a gauge.

        Raises:
            TritonModelException: not a gauge, or a family that is gone.
        """
        self._check("set", MetricKind.GAUGE)
        self._runtime.change_metric(self._number, "set", float(value))

    def observe(self, value: float) -> None:
        """Count a value into a histogram.

        Raises:
            TritonModelException: not a histogram, or a family that is gone.
        """
        self._check("observe", MetricKind.HISTOGRAM)
        self._runtime.change_metric(self._number, "observe", float(value))

    def value(self) -> float:
        """Ask the server for the value of a counter or gauge: what all instances of all models have reported.

        Raises:
            TritonModelException: a histogram, or a family that is gone.
        """
        self._check("get", MetricKind.COUNTER, MetricKind.GAUGE)
        return self._runtime.read_metric(self._number)

    def _check(self, verb: str, *kinds: MetricKind) -> None:
        if self._family() is None:
            raise TritonModelException(
                "Invalid metric operation as the corresponding 'MetricFamily' has been deleted. The 'MetricFamily' "
                "object should be deleted AFTER its corresponding 'Metric' objects have been deleted."
            )
        if self._kind not in kinds:
            what = {"get": "Value", "increment": "Increment", "set": "Set", "observe": "Observe"}[verb]
            kind = f"TRITONSERVER_METRIC_KIND_{self._kind.name}"
            raise TritonModelException(f"Failed to {verb} metric value: {kind} does not support {what}")


class MetricFamily:
    """A name, a description and a kind, shared by metrics with different labels.

    Raises:
        TritonModelException: a family of that name has another kind. The first description stays.
    """

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        if not isinstance(kind, MetricKind):
            raise TypeError(f"kind must be MetricFamily.COUNTER, GAUGE or HISTOGRAM, found {kind!r}")
        self.name = name
        self.description = description
        self.kind = kind
        try:
            runtime().define_family(name, description, kind.value)
        except TritonModelException as error:
            raise TritonModelException(f"Error when creating MetricFamily: {error}") from None

    def Metric(  # noqa: N802  # Triton's name
        self, labels: dict[str, str] | None = None, buckets: list[float] | None = None
    ) -> Metric:
        """Make a metric of this family, or another handle to the one of the same labels.

        Raises:
            TritonModelException: a histogram without buckets, buckets that do not rise, or buckets elsewhere.
        """
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        if not all(isinstance(text, str) for pair in (labels or {}).items() for text in pair):
            raise TritonModelException(f"labels of metric '{self.name}' must map str to str")
        if buckets is not None and not isinstance(buckets, list):
            raise TritonModelException("Failed to create metric. Buckets must be a list.")
        if self.kind is MetricKind.HISTOGRAM:
            if buckets is None:
                raise TritonModelException("Failed to create metric. Missing required buckets.")
            if any(low >= high for low, high in itertools.pairwise(buckets)):
                raise TritonModelException("Failed to create metric: buckets must rise")
        elif buckets is not None:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        return Metric(self, dict(labels or {}), [float(bound) for bound in buckets or []])
