"""What happened to the requests of one model, entered into its Statistics the way Triton counts.

A request is counted once, as a success or as a failure; an execution is counted whether or not it succeeded.
Source: Triton core, infer_stats.cc. Unlike Triton's python backend, an error response counts as a failure.
"""

from tritium.core.clock import Clock
from tritium.core.errors import InferenceError
from tritium.core.instance import ExecutionTimes
from tritium.core.request import InferResponse
from tritium.core.scheduler.plan import Reason
from tritium.core.statistics import RESPONSES_TOLD_APART, BatchStatistics, ResponseStatistics, Statistics


class Ledger:
    """The bookkeeping of one model."""

    def __init__(self, statistics: Statistics, clock: Clock, *, decoupled: bool) -> None:
        self.statistics = statistics
        self.decoupled = decoupled
        self._clock = clock

    def execution(self, size: int, times: ExecutionTimes) -> None:
        """Count one execution of a batch of `size` elements."""
        statistics = self.statistics
        statistics.execution_count += 1
        statistics.last_inference_ms = self._clock.wall_ms()
        batch = statistics.batches.get(size)
        if batch is None:
            batch = statistics.batches[size] = BatchStatistics()
        _add(batch, times)

    def success(self, batch_size: int, request_ns: int, queue_ns: int, times: ExecutionTimes) -> None:
        """Count one request that was answered."""
        statistics = self.statistics
        statistics.inference_count += batch_size
        duration = statistics.success
        duration.count += 1
        duration.ns += request_ns
        duration = statistics.queue
        duration.count += 1
        duration.ns += queue_ns
        _add(statistics, times)
        if statistics.latencies is not None:
            statistics.latencies.success(request_ns, queue_ns, times)

    def cache_hit(self, request_ns: int, queue_ns: int, lookup_ns: int) -> None:
        """Count one request that the response cache answered: a success, but no inference."""
        statistics = self.statistics
        statistics.success.add(request_ns)
        statistics.queue.add(queue_ns)
        statistics.cache_hit.add(lookup_ns)
        if statistics.latencies is not None:
            statistics.latencies.cache_hit(queue_ns, lookup_ns)

    def cache_miss(self, took_ns: int) -> None:
        """Count a look-up in vain and the insertion that followed; the request counts as a success on its own."""
        statistics = self.statistics
        statistics.success.ns += took_ns
        statistics.cache_miss.add(took_ns)
        if statistics.latencies is not None:
            statistics.latencies.cache_miss(took_ns)

    def failure(self, reason: str, request_ns: int) -> None:
        """Count one request that failed, under one of the reasons of nv_inference_request_failure."""
        failures = self.statistics.failures
        self.statistics.fail.add(request_ns)
        failures[reason] = failures.get(reason, 0) + 1

    def cut(self, because: Reason) -> None:
        """Count one batch by why it was cut."""
        cuts = self.statistics.cuts
        cuts[because] = cuts.get(because, 0) + 1

    def response(
        self, index: int, response: InferResponse | InferenceError | None, took_ns: int, output_ns: int = 0
    ) -> None:
        """Count one response of a decoupled stream by its place in it; `output_ns` of its time made its outputs."""
        index = min(index, RESPONSES_TOLD_APART - 1)
        statistics = self.statistics.responses.get(index)
        if statistics is None:
            statistics = self.statistics.responses[index] = ResponseStatistics()
        if isinstance(response, InferenceError) and response.reason == "CANCELED":
            statistics.cancel.add(took_ns)
            return
        statistics.compute_infer.add(took_ns - output_ns)
        if response is None:
            statistics.empty_response.add(took_ns)
        elif isinstance(response, InferenceError):
            statistics.fail.add(took_ns)
            if output_ns:
                statistics.compute_output.add(output_ns)
        else:
            statistics.success.add(took_ns)
            statistics.compute_output.add(output_ns)


def _add(counters: BatchStatistics | Statistics, times: ExecutionTimes) -> None:
    """Add the three parts of an execution; written out, for at two calls a request it is 1 µs less than `add`."""
    duration = counters.compute_input
    duration.count += 1
    duration.ns += times.input_ns
    duration = counters.compute_infer
    duration.count += 1
    duration.ns += times.infer_ns
    duration = counters.compute_output
    duration.count += 1
    duration.ns += times.output_ns
