"""Requests, responses and what the cache did, entered as Triton counts."""

from tritium.core.clock import SYSTEM_CLOCK
from tritium.core.errors import Cancelled, InferenceError, ModelFailed
from tritium.core.instance import ExecutionTimes
from tritium.core.ledger import Ledger
from tritium.core.request import InferResponse
from tritium.core.statistics import (
    RESPONSE_DURATIONS,
    RESPONSES_TOLD_APART,
    Duration,
    ResponseStatistics,
    Statistics,
)


def ledger() -> Ledger:
    return Ledger(Statistics(), SYSTEM_CLOCK, decoupled=True)


def counted(statistics: ResponseStatistics) -> dict[str, tuple[int, int]]:
    """Return what was counted of a response's place, without what was not."""
    durations = {name: getattr(statistics, name) for name in RESPONSE_DURATIONS}
    return {name: (duration.count, duration.ns) for name, duration in durations.items() if duration.count}


def response(
    given: InferResponse | InferenceError | None, took_ns: int, output_ns: int = 0
) -> dict[str, tuple[int, int]]:
    """Count one response, and return what was counted of it."""
    books = ledger()
    books.response(2, given, took_ns, output_ns)
    (at,) = books.statistics.responses
    assert at == 2
    return counted(books.statistics.responses[2])


def test_a_response_is_counted_in_its_parts() -> None:
    """The time of its outputs is counted apart, where the instance tells it; both are its success."""
    assert response(InferResponse("m", "1"), 30, 10) == {
        "compute_infer": (1, 20),
        "compute_output": (1, 10),
        "success": (1, 30),
    }


def test_a_failure_counts_its_outputs_only_where_there_were_any() -> None:
    """As Triton does."""
    failed = ModelFailed("no")
    assert response(failed, 30) == {"compute_infer": (1, 30), "fail": (1, 30)}
    assert response(failed, 30, 10) == {"compute_infer": (1, 20), "compute_output": (1, 10), "fail": (1, 30)}


def test_the_end_of_a_stream_is_an_empty_response_and_a_cancellation_is_nothing_else() -> None:
    """What was cancelled was not computed."""
    assert response(None, 30) == {"compute_infer": (1, 30), "empty_response": (1, 30)}
    assert response(Cancelled("gone"), 30) == {"cancel": (1, 30)}


def test_a_stream_without_end_is_counted_in_bounded_memory() -> None:
    """What comes late is counted under the last place there is."""
    books = ledger()
    for index in (0, RESPONSES_TOLD_APART - 1, RESPONSES_TOLD_APART, 10**9):
        books.response(index, InferResponse("m", "1"), 10)
    responses = books.statistics.responses
    assert {index: place.success.count for index, place in responses.items()} == {0: 1, RESPONSES_TOLD_APART - 1: 3}


def test_a_hit_is_a_success_without_an_inference() -> None:
    """A miss adds to the success that is counted on its own."""
    books = ledger()
    books.success(4, 100, 10, ExecutionTimes(1, 2, 3))
    books.cache_miss(7)
    books.cache_hit(20, 5, 6)
    statistics = books.statistics
    assert (statistics.inference_count, statistics.success) == (4, Duration(2, 127))
    assert (statistics.queue, statistics.compute_infer) == (Duration(2, 15), Duration(1, 2))
    assert (statistics.cache_hit, statistics.cache_miss) == (Duration(1, 6), Duration(1, 7))
