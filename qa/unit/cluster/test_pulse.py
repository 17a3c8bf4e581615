"""A worker that gives no sign of life: it costs more from the first beat it misses, long before it is given up."""

import asyncio
import os
import signal

from tritium.cluster.pulse import BEATS, Pulse

PROMPT = list(range(1, 14))


async def test_missed_beats_are_told():
    """Every beat without a sign of life is told, a sign of life as 0; after the last one the peer is given up."""
    told, over = [], asyncio.Event()
    pulse = Pulse(0.08, ping=lambda: None, on_silent=over.set, on_missed=told.append)
    pulse.start()
    await asyncio.wait_for(over.wait(), 60)
    assert told == list(range(1, BEATS + 1))
    pulse.heard()
    assert told[-1] == 0
    pulse.heard()
    assert told.count(0) == 1


async def test_who_answers_misses_nothing():
    """A peer that answers every ping is never told of."""
    told, beats = [], asyncio.Semaphore(0)

    def ping() -> None:
        asyncio.get_running_loop().call_soon(pulse.heard)
        beats.release()

    pulse = Pulse(0.04, ping=ping, on_silent=lambda: told.append(-1), on_missed=told.append)
    pulse.start()
    for _ in range(3 * BEATS):
        await asyncio.wait_for(beats.acquire(), 60)
    pulse.stop()
    assert told == []


async def test_a_stopped_worker_costs_more(fleet_of, request_for, collector):
    """Prompts that a stopped worker holds go elsewhere after its first missed beat, and back when it goes on."""
    async with fleet_of("workers=2,silent_s=8") as fleet:
        first = fleet.generate(request_for(PROMPT), sink := collector())
        await sink.end()
        holder = first.route.worker
        assert fleet.explain(PROMPT).worker == holder
        router, moved = fleet.workers.generating, asyncio.Queue()
        suspect = router.suspect
        router.suspect = lambda worker, beats: (suspect(worker, beats), moved.put_nowait((worker, beats)))
        pid = fleet.workers.by_name[holder].pid
        os.kill(pid, signal.SIGSTOP)
        try:
            while (await asyncio.wait_for(moved.get(), 60)) != (holder, 1):
                pass
            report = fleet.explain(PROMPT)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert report.worker != holder
        while (await asyncio.wait_for(moved.get(), 60)) != (holder, 0):
            pass
        assert fleet.explain(PROMPT).worker == holder
        assert fleet.workers.by_name[holder].restarts == 0


async def test_every_role_is_suspected_in_its_own_router(fleet_of):
    """In a mixed fleet, too, a missed beat counts where the worker is chosen: those who generate have one router."""
    async with fleet_of("prefill=1,decode=1,workers=1") as fleet:
        workers = fleet.workers
        for worker in workers.by_name.values():
            workers.reports.on_missed(worker, 1)
        assert {load.name: load.missed for load in workers.generating.loads} == {"decode_0": 1, "worker_0": 1}
        assert {load.name: load.missed for load in workers.prefilling.loads} == {"prefill_0": 1}
