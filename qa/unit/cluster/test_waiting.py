"""Requests that find every worker full: they wait their turn in front, within bounds, and nothing of them is left."""

import asyncio
import os
import signal

from tritium.cluster.fleet import PoolRequest
from tritium.cluster.flight import Stage
from tritium.cluster.waiting import MOST_TENANTS
from tritium.core.errors import Overloaded, Unavailable

PROMPT = list(range(1, 14))
LONG = 100_000


def waiting(fleet) -> dict[str, float]:
    return {
        labels["tenant"]: value
        for name, labels, value in fleet.metrics()
        if name == "tritium_fleet_waiting_requests" and value
    }


def refused(fleet) -> dict[str, float]:
    return {
        labels["reason"]: value
        for name, labels, value in fleet.metrics()
        if name == "tritium_fleet_refused_requests_total" and value
    }


def waited(fleet) -> float:
    return next(
        sample.value
        for sample in fleet.own_metrics()
        if sample.family == "tritium_waited_seconds" and sample.suffix == "_count"
    )


def nothing_is_left(fleet) -> None:
    flights = fleet.flights
    assert len(flights) == flights.waiting.count == len(flights._waiters) == 0
    assert flights.waiting._timer is None
    assert all(load.active == 0 for load in fleet.workers.generating.loads)


async def occupied(fleet, request_for, collector):
    """Give the only place of the fleet to a generation that goes on until it is cancelled."""
    sink = collector()
    generation = fleet.generate(request_for(PROMPT, LONG), sink)
    await sink.grown(1)
    return generation


async def test_order_of_those_who_wait(fleet_of, request_for, collector):
    """When a place is free the lowest priority goes first, then tenants in turn, whoever asked most."""
    async with fleet_of("workers=1,worker_requests=1", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        went = []

        class Sink(collector):
            def __init__(self, name) -> None:
                super().__init__()
                self.name = name

            def on_delta(self, delta) -> None:
                if not self.deltas:
                    went.append(self.name)
                super().on_delta(delta)

        sinks = []
        for tenant, priority, name in (
            ("a", 0, "a1"), ("a", 0, "a2"), ("a", 0, "a3"), ("b", 0, "b1"), ("b", 0, "b2"), ("a", -1, "urgent")
        ):  # fmt: skip
            sinks.append(Sink(name))
            fleet.generate(request_for(PROMPT, 2, tenant=tenant, priority=priority), sinks[-1])
        assert waiting(fleet) == {"a": 4, "b": 2}
        assert went == []
        first.cancel()
        for sink in sinks:
            await sink.end(60)
            assert sink.error is None
        assert went == ["urgent", "a1", "b1", "a2", "b2", "a3"]
        assert waited(fleet) == 6
        nothing_is_left(fleet)


async def test_all_places_are_used(fleet_of, request_for, collector):
    """Nobody waits while a worker has a place, and each that is freed is given away at once."""
    async with fleet_of("workers=2,worker_requests=2", step_s=0.001) as fleet:
        running = [fleet.generate(request_for([n, *PROMPT], LONG), collector()) for n in range(1, 5)]
        assert waited(fleet) == fleet.flights.waiting.count == 0
        assert sorted(load.active for load in fleet.workers.generating.loads) == [2, 2]
        sinks = [collector() for _ in range(8)]
        for sink in sinks:
            fleet.generate(request_for(PROMPT, 3), sink)
        assert fleet.flights.waiting.count == 8
        running[0].cancel()
        for sink in sinks:
            await sink.end(60)
        for generation in running[1:]:
            generation.cancel()
        nothing_is_left(fleet)


async def test_bounds(fleet_of, request_for, collector):
    """Beyond the bounds a request is refused with 429 and told when to come again; it is counted by its reason."""
    async with fleet_of("workers=1,worker_requests=1,max_waiting=3,max_waiting_tenant=2", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        for tenant in "aab":
            fleet.generate(request_for(PROMPT, tenant=tenant), collector())
        for tenant, words in (("a", "3 requests wait"), ("c", "3 requests wait")):
            sink = await refusal(fleet, request_for(PROMPT, tenant=tenant), collector)
            assert isinstance(sink.error, Overloaded)
            assert words in sink.error.message
            assert sink.error.retry_s >= 1
        assert refused(fleet) == {"room_full": 2}
        first.cancel()
    async with fleet_of("workers=1,worker_requests=1,max_waiting_tenant=1", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        fleet.generate(request_for(PROMPT, tenant="a"), collector())
        sink = await refusal(fleet, request_for(PROMPT, tenant="a"), collector)
        assert "1 requests of 'a' wait" in sink.error.message
        assert refused(fleet) == {"tenant_full": 1}
        first.cancel()


async def refusal(fleet, request, collector):
    sink = collector()
    fleet.generate(request, sink)
    return await sink.end()


async def test_waiting_too_long(fleet_of, request_for, collector):
    """A request that finds no place within `wait_s` is refused with 503, and leaves nothing."""
    async with fleet_of("workers=1,worker_requests=1,wait_s=0.05", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        sinks = [collector() for _ in range(3)]
        for sink in sinks:
            fleet.generate(request_for(PROMPT), sink)
        for sink in sinks:
            await sink.end(30)
            assert isinstance(sink.error, Unavailable)
            assert "no worker had room within 0.05 s" in sink.error.message
        assert refused(fleet) == {"too_long": 3}
        first.cancel()
        nothing_is_left(fleet)


async def test_who_leaves_waits_no_more(fleet_of, request_for, collector):
    """A request that is cancelled while it waits is not sent; the next one has its turn."""
    async with fleet_of("workers=1,worker_requests=1", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        gone, stays = collector(), collector()
        leaving = fleet.generate(request_for(PROMPT), gone)
        fleet.generate(request_for(PROMPT), stays)
        leaving.cancel()
        assert leaving._flight.stage is Stage.OVER
        first.cancel()
        await stays.end(30)
        assert stays.error is None
        assert gone.deltas == []
        nothing_is_left(fleet)


async def test_unloading_ends_the_wait(fleet_of, request_for, collector):
    """Who waits when the model is unloaded is told so; what runs may finish."""
    async with fleet_of("workers=1,worker_requests=1", step_s=0.001) as fleet:
        runs, waits = collector(), collector()
        fleet.generate(request_for(PROMPT, 500), runs)
        fleet.generate(request_for(PROMPT), waits)
        await fleet.flights.close(30)
        await waits.end()
        assert "unloading" in waits.error.message
        await runs.end(30)
        assert runs.error is None
        nothing_is_left(fleet)


async def test_a_lost_worker_is_waited_for(fleet_of, request_for, collector):
    """When the full worker dies those who wait go on waiting, and have their turn when it is back."""
    async with fleet_of("workers=1,worker_requests=1", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        sinks = [collector() for _ in range(3)]
        for sink in sinks:
            fleet.generate(request_for(PROMPT, 2), sink)
        os.kill(fleet.workers.by_name["worker_0"].pid, signal.SIGKILL)
        await fleet.events.until("worker_ready", 2, within_s=60)
        first.cancel()
        for sink in sinks:
            await sink.end(60)
            assert sink.error is None
        nothing_is_left(fleet)


async def test_prompts_to_compute_make_a_worker_full(fleet_of, request_for, collector):
    """With `worker_prefill_tokens` a worker is full while that much waits to be computed, and only so long."""
    async with fleet_of("workers=1,worker_prefill_tokens=20", step_s=0.05) as fleet:
        sinks = [collector() for _ in range(3)]
        for number, sink in enumerate(sinks, 1):
            fleet.generate(request_for([number] * 40, 2), sink)
        assert fleet.flights.waiting.count == 2
        for sink in sinks:
            await sink.end(30)
            assert sink.error is None
        nothing_is_left(fleet)


async def test_tenants_in_metrics_are_bounded(fleet_of, request_for, collector):
    """However many names clients make up, metrics have a bounded number of them and lose nobody."""
    async with fleet_of("workers=1,worker_requests=1", step_s=0.001) as fleet:
        first = await occupied(fleet, request_for, collector)
        others = [fleet.generate(request_for(PROMPT, tenant=f"t{n}"), collector()) for n in range(MOST_TENANTS + 9)]
        fleet.generate(request_for(PROMPT), collector()).cancel()
        found = waiting(fleet)
        assert len(found) == MOST_TENANTS + 1
        assert found["other"] == 9
        assert sum(found.values()) == len(others)
        for generation in (*others, first):
            generation.cancel()
        assert waiting(fleet) == {}
        nothing_is_left(fleet)


def asked(**rest) -> PoolRequest:
    return PoolRequest([3, 4, 5], "embed", **rest)


async def test_prompts_to_pool_wait_too(fleet_of):
    """Prompts that are pooled take their turns as generations do: never more at once than the workers take."""
    async with fleet_of("workers=2,worker_requests=1", tasks=["embed"]) as fleet:
        book, most = fleet.workers.generating.book, []
        for worker in fleet.workers.by_name.values():
            process = worker._process
            process.send = lambda *frames, send=process.send: (most.append(book.active), send(*frames))
        answers = await asyncio.wait_for(asyncio.gather(*(fleet.pool(asked()) for _ in range(12))), 60)
        assert len(answers) == 12
        assert set(most) <= {1, 2}
        assert waited(fleet) == 10
        nothing_is_left(fleet)


async def fallen_to(fleet, count) -> None:
    """Let the event loop go round until so many wait, and not once more."""
    for _ in range(100):
        if fleet.flights.waiting.count == count:
            return
        await asyncio.sleep(0)
    raise AssertionError


async def test_a_pooling_that_is_cancelled_passes_its_turn_on(fleet_of):
    """A call cancelled in the moment of its turn holds no place."""
    async with fleet_of("workers=1,worker_requests=1", tasks=["embed"], slow_pool=True) as fleet:
        first, second, third = (asyncio.create_task(fleet.pool(asked())) for _ in range(3))
        await asyncio.sleep(0)  # the calls begin
        assert fleet.flights.waiting.count == 2
        first.cancel()
        await fallen_to(fleet, 1)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await fallen_to(fleet, 0)
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        nothing_is_left(fleet)
