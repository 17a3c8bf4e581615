"""Latencies of one model's requests as distributions: what --metrics-config switches on beside the counters.

A model that is not asked for them has `Statistics.latencies` None, and its requests pay for one look at that.
Units are Triton's: microseconds in summaries, milliseconds in histograms, both whole.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

from tritium.core.clock import Clock
from tritium.core.errors import InferenceError
from tritium.core.instance import ExecutionTimes
from tritium.core.quantiles import RecentQuantiles, Target
from tritium.core.request import InferResponse, Reply

DEFAULT_TARGETS: Final = (
    Target(0.5, 0.05), Target(0.9, 0.01), Target(0.95, 0.001), Target(0.99, 0.001), Target(0.999, 0.001),
)  # fmt: skip
DEFAULT_BUCKETS: Final = (100.0, 500.0, 2000.0, 5000.0)
"""Upper bounds of the first response's histogram, in milliseconds."""

SUMMARIES: Final = (
    "request", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss",
)  # fmt: skip


class Histogram:
    """How many numbers fell into each bucket; the last bucket is for what exceeds every bound."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, number: float, times: int = 1) -> None:
        """Add a number, so many times."""
        self.counts[bisect_left(self.bounds, number)] += times
        self.sum += number * times


class Latencies:
    """The distributions of one model: `summaries` by the names of SUMMARIES, and the first response's histogram."""

    __slots__ = ("clock", "first_response_ms", "summaries")

    def __init__(self, clock: Clock, targets: Sequence[Target] = (), buckets: Sequence[float] | None = None) -> None:
        """Without targets there are no summaries, without buckets no histogram."""
        self.clock = clock
        self.summaries: Mapping[str, RecentQuantiles] = (
            {name: RecentQuantiles(targets, clock.now_ns()) for name in SUMMARIES} if targets else {}
        )
        self.first_response_ms = Histogram(buckets) if buckets is not None else None

    def success(self, request_ns: int, queue_ns: int, times: ExecutionTimes) -> None:
        """Add a request that an execution answered."""
        if self.summaries:
            now_ns = self.clock.now_ns()
            self._add("request", request_ns, now_ns)
            self._add("queue", queue_ns, now_ns)
            self._add("compute_input", times.input_ns, now_ns)
            self._add("compute_infer", times.infer_ns, now_ns)
            self._add("compute_output", times.output_ns, now_ns)

    def cache_hit(self, queue_ns: int, lookup_ns: int) -> None:
        """Add a request that the response cache answered."""
        if self.summaries:
            now_ns = self.clock.now_ns()
            self._add("queue", queue_ns, now_ns)
            self._add("cache_hit", lookup_ns, now_ns)

    def cache_miss(self, took_ns: int) -> None:
        """Add the time that looking up and inserting a response took."""
        if self.summaries:
            self._add("cache_miss", took_ns, self.clock.now_ns())

    def watch(self, reply: Reply) -> Reply:
        """Return the reply of a request that begins now, with its first response timed."""
        if self.first_response_ms is None:
            return reply
        return _FirstResponse(reply, self.clock, self.first_response_ms)

    def _add(self, name: str, took_ns: int, now_ns: int) -> None:
        self.summaries[name].observe(took_ns // 1_000, now_ns)


class _FirstResponse:
    """Passes responses on and times the first."""

    __slots__ = ("_began_ns", "_clock", "_histogram", "_reply")

    def __init__(self, reply: Reply, clock: Clock, histogram: Histogram) -> None:
        self._reply = reply
        self._clock = clock
        self._began_ns = clock.now_ns()
        self._histogram: Histogram | None = histogram

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Pass a response on."""
        if self._histogram is not None and response is not None:
            self._histogram.observe((self._clock.now_ns() - self._began_ns) // 1_000_000)
            self._histogram = None
        self._reply.send(response, final=final)
