"""Counters of one model version, as Triton's statistics extension and nv_* metrics report them.

Plain integers, added to on the event loop by schedulers; protocols and metrics read them when asked, so that a
request pays for nothing but the additions.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tritium.core.scheduler.plan import Reason

if TYPE_CHECKING:
    from tritium.core.latencies import Latencies

REQUEST_DURATIONS: Final = (
    "success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip
"""The durations of `Statistics`, in the order in which the statistics extension lists them."""

BATCH_DURATIONS: Final = ("compute_input", "compute_infer", "compute_output")
"""Those of `BatchStatistics`."""

RESPONSE_DURATIONS: Final = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")
"""Those of `ResponseStatistics`."""

RESPONSES_TOLD_APART: Final = 4096
"""A stream may go on for ever: its responses from this one on are counted together, under the last index."""


@dataclass(slots=True)
class Duration:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count one more (or `count` more) that took `ns` together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class BatchStatistics:
    """The executions of one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class ResponseStatistics:
    """The responses of one index within decoupled streams (0: the first response of every request)."""

    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    empty_response: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Statistics:
    """Everything counted of one model version; `inference_count` counts batch elements, `success` requests."""

    last_inference_ms: int = 0
    inference_count: int = 0
    execution_count: int = 0
    pending: int = 0
    load_seconds: float = 0.0
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    failures: dict[str, int] = field(default_factory=dict)
    """Failed requests by reason: REJECTED, CANCELED, BACKEND, OTHER."""
    batches: dict[int, BatchStatistics] = field(default_factory=dict)
    responses: dict[int, ResponseStatistics] = field(default_factory=dict)
    cuts: dict[Reason, int] = field(default_factory=dict)
    """Batches of the dynamic batcher by why they were not larger; what each reason means, its members say.

    Read by metrics (tritium_batch_cut_total) and for the statistics extension. A model that does not batch has
    none: each of its executions, `execution_count`, is one request for Reason.SINGLE.
    """
    latencies: "Latencies | None" = None
    """Distributions beside the sums, where the server was asked for them."""
