"""Whole runs: the same again for the same seed, every request ends once, strides change nothing."""

from dataclasses import replace

import pytest

from tritium.cluster.spec import parse_fleet
from tritium.simulation.fleet import SimulatedFleet
from tritium.simulation.policy import POLICIES, router_of
from tritium.simulation.request import Request, Workload
from tritium.simulation.scenario import Scenario, ideal_hits, play
from tritium.simulation.summary import Goal
from tritium.simulation.synthetic import KINDS, make_workload


def scenario(workload: Workload, fleet: str = "workers=3", *, blocks: int = 2000, streams: int = 0) -> Scenario:
    engine = {"num_gpu_blocks_override": blocks, "max_num_batched_tokens": 2048, "mocker": {"gpu": "h100"}}
    return Scenario(parse_fleet(fleet), workload, engine, Goal(), streams=streams, seed=3)


def everything(workload: Workload) -> set[int]:
    """Return the numbers of all requests, those that follow others included."""
    numbers = set()
    for first in workload.requests():
        request: Request | None = first
        while request is not None:
            assert request.number not in numbers
            numbers.add(request.number)
            request = request.then
    return numbers


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_ends_once(kind):
    """Whatever the kind: served or refused, once; and nothing is held by anybody after it."""
    workload = make_workload(kind, rate=12, duration_s=20, block_tokens=64, seed=5)
    played = scenario(workload, blocks=600)
    router = router_of("kv", 64)
    fleet = SimulatedFleet(played.fleet, played.settings(), router, workload.requests())
    records = fleet.run()
    ended = [*records.numbers, *records.refusals]
    assert len(ended) == len(set(ended))
    # Who is refused does not ask on.
    follow = sum(1 for request in workload.requests() if request.then is not None)
    assert set(ended) <= everything(workload)
    assert set(ended) == everything(workload) or (records.refusals and follow)
    assert all(first >= came for came, first in zip(records.arrived_s, records.first_s, strict=True))
    assert [worker.scheduler.blocks.used for worker in fleet.workers.values()] == [0, 0, 0]
    for routing in fleet.routers.values():
        assert [(load.active, load.prefill_blocks, load.decode_blocks) for load in routing.loads] == [(0, 0, 0)] * 3


@pytest.mark.parametrize("policy", [*POLICIES, "dynamo:4"])
def test_the_same_seed_gives_the_same_run(policy):
    """Two runs agree in every figure but how long they took, also of policies that draw lots."""
    played = scenario(make_workload("tenants", rate=20, duration_s=7, block_tokens=64))
    first, second = (replace(play(played, policy).summary, took_s=0.0) for _ in range(2))
    assert first == second
    assert first.requests > 100
    assert 0 < first.hit_ratio <= ideal_hits(played.workload) + 0.01


def test_another_seed_gives_other_requests():
    """The seed is what makes a workload."""
    times = [
        [request.at_s for request in make_workload("mix", rate=5, duration_s=20, block_tokens=64, seed=seed).requests()]
        for seed in (1, 2)
    ]
    assert times[0] != times[1]


@pytest.mark.parametrize("fleet", ["workers=2", "prefill=1,decode=1"])
@pytest.mark.parametrize("blocks", [150, 1000])
def test_strides_change_nothing(fleet, blocks):
    """Steps taken one by one lead to the same times, also where blocks run out and sequences are preempted."""
    workload = make_workload("chat", rate=6, duration_s=10, block_tokens=16, seed=2)
    columns = []
    for strides in (True, False):
        played = scenario(workload, fleet, blocks=blocks)
        simulated = SimulatedFleet(played.fleet, played.settings(), router_of("kv", 16), workload.requests())
        for worker in simulated.workers.values():
            worker.strides = strides
        records = simulated.run()
        preempted = sum(worker.scheduler.preemptions for worker in simulated.workers.values())
        columns.append((simulated.agenda.happened, preempted, records))
    (few, preempted, one), (many, preempted_too, other) = columns
    assert few < many / 2
    assert preempted == preempted_too
    assert list(one.numbers) == list(other.numbers)
    assert list(one.cached_tokens) == list(other.cached_tokens)
    assert list(one.first_s) == pytest.approx(list(other.first_s))
    assert list(one.ended_s) == pytest.approx(list(other.ended_s))


def test_streams_keep_so_many_at_once():
    """With streams a request comes when another ends, whatever the times say."""
    workload = make_workload("prefixes", rate=1, duration_s=60, block_tokens=64)
    records = play(scenario(workload, streams=4), "kv").records
    changes = sorted([*((at_s, 1) for at_s in records.arrived_s), *((at_s, -1) for at_s in records.ended_s)])
    under_way, most = 0, 0
    for _, change in changes:
        under_way += change
        most = max(most, under_way)
    assert most == 4
    assert len(records) == len(everything(workload))


def test_more_time_for_more_work():
    """A fleet of half the size answers the same requests later."""
    workload = make_workload("mix", rate=20, duration_s=20, block_tokens=64)
    small, large = (play(scenario(workload, f"workers={count}"), "least_loaded").summary for count in (2, 4))
    assert small.ttft_mean_s > large.ttft_mean_s


def test_thousands_in_a_row_may_be_refused():
    """A stream goes on with the next request at once, however many were too long."""
    requests = [Request(number, 0.0, 10_000_000, 1, []) for number in range(3000)]
    records = play(scenario(Workload("too long", 64, lambda: iter(requests)), streams=2), "kv").records
    assert (len(records), len(records.refusals)) == (0, 3000)
