"""How long generations take, told once each, whatever happens to them on the way."""

import asyncio
import time

from tritium.cluster.timings import Timings


def _count(histogram):
    return sum(histogram.counts)


def test_moments_count_once():
    """A generation that moves to another worker has one first token and one overhead."""
    timings = Timings()
    watch = timings.watch()
    for _ in range(2):
        watch.routed(0.0)
        watch.sent()
        watch.first_token()
    watch.ended(5)
    assert [_count(h) for h in (timings.overhead, timings.first_token, timings.generation)] == [1, 1, 1]
    assert _count(timings.token_gap) == 4
    assert _count(timings.stages["route"]) == 2


def test_generation_of_one_token_has_no_gap():
    """There is nothing between the first token and the last."""
    timings = Timings()
    watch = timings.watch()
    watch.sent()
    watch.first_token()
    watch.ended(1)
    assert _count(timings.token_gap) == 0


async def test_waiting_is_no_overhead():
    """What a generation waited for a worker counts as held; the rest of its way to one as overhead."""
    timings = Timings()
    began_s = time.monotonic()
    watch = timings.watch()
    watch.held()
    await asyncio.sleep(0.05)
    watch.released()
    watch.released()
    watch.sent()
    assert _count(timings.held) == 1
    assert timings.held.sum >= 0.05
    assert timings.overhead.sum <= time.monotonic() - began_s - timings.held.sum


def test_samples_are_a_histogram():
    """Buckets add up, the last is all, and the sum is of the same numbers."""
    timings = Timings()
    timings.first_token.observe(0.004)
    timings.first_token.observe(100.0)
    samples = [s for s in timings.samples("m") if s.family == "tritium_first_token_seconds"]
    buckets = {s.labels["le"]: s.value for s in samples if s.suffix == "_bucket"}
    assert (buckets["0.0025"], buckets["0.005"], buckets["30"], buckets["+Inf"]) == (0, 1, 1, 2)
    assert {s.suffix: s.value for s in samples if s.suffix != "_bucket"} == {"_sum": 100.004, "_count": 2}
    assert {s.labels["model"] for s in samples} == {"m"}


async def test_fleet_tells_of_a_generation(fleet_of, request_for, collector):
    """A generation on a real worker leaves its tokens and times in the fleet's metrics."""
    async with fleet_of() as fleet:
        for _ in range(2):
            fleet.generate(request_for(list(range(14))), sink := collector())
            await sink.end()
        values = {(s.family + s.suffix, s.labels.get("stage", "")): s.value for s in fleet.own_metrics()}
        assert values["tritium_first_token_seconds_count", ""] == 2
        assert values["tritium_token_gap_seconds_count", ""] == 2 * (len(sink.tokens) - 1)
        assert values["tritium_stage_seconds_count", "route"] == 2
        assert 0 < values["tritium_overhead_seconds_sum", ""] < values["tritium_first_token_seconds_sum", ""]
        assert values["tritium_first_token_seconds_sum", ""] < values["tritium_generation_seconds_sum", ""]
        counted = {name: value for name, labels, value in fleet.metrics() if name.endswith("_tokens_total")}
        assert counted["tritium_prompt_tokens_total"] == 28
        assert counted["tritium_cached_tokens_total"] == 12
        assert counted["tritium_output_tokens_total"] == 2 * len(sink.tokens)
