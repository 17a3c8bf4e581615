"""The heartbeat of engines: one that is stuck is found, one that works or rests is left alone."""

import asyncio

from tritium.cluster.heartbeat import Heartbeat

PROMPT = list(range(1, 14))


class Engine:
    """What a heartbeat sees of an engine, and what it did about it."""

    def __init__(self, stuck_s: float, canary_s: float, *, working: bool = False) -> None:
        self.steps = 0
        self.working = working
        self.canaries = 0
        self.happened = asyncio.Event()
        self.stuck = asyncio.Event()
        self.heartbeat = Heartbeat(
            stuck_s,
            canary_s,
            steps=lambda: self.steps,
            working=lambda: self.working,
            canary=self._canary,
            on_stuck=self.stuck.set,
        )
        self.heartbeat.start()

    def _canary(self) -> None:
        self.canaries += 1
        self.happened.set()


async def test_work_without_a_step():
    """An engine that has work and makes no step is told of, once, and by the look that saw it."""
    engine = Engine(0.04, 0, working=True)
    await asyncio.wait_for(engine.stuck.wait(), 60)
    assert engine.heartbeat._timer is None


async def test_steps_keep_it_alive():
    """An engine that makes a step now and then is not stuck, however long its work takes."""
    engine = Engine(0.08, 0, working=True)
    looked = engine.heartbeat._look
    looks = 0

    def stepping() -> None:
        nonlocal looks
        looks += 1
        engine.steps += looks % 3 == 0
        looked()
        if looks == 40:
            engine.happened.set()

    engine.heartbeat._look = stepping
    engine.heartbeat.stop()
    engine.heartbeat.start()
    await asyncio.wait_for(engine.happened.wait(), 60)
    engine.heartbeat.stop()
    assert not engine.stuck.is_set()


async def test_canary_of_an_idle_engine():
    """An idle engine is asked for a token after a while; one that does not give it is stuck."""
    engine = Engine(0.04, 0.08)
    await asyncio.wait_for(engine.happened.wait(), 60)
    assert not engine.stuck.is_set()
    engine.working = True
    await asyncio.wait_for(engine.stuck.wait(), 60)


async def test_begun_again():
    """Beginning once more changes nothing: there is one timer, and stopping stops it."""
    engine = Engine(0.04, 0, working=True)
    timer = engine.heartbeat._timer
    engine.heartbeat.start()
    assert engine.heartbeat._timer is timer
    engine.heartbeat.stop()
    assert timer.cancelled()


async def test_switched_off():
    """Without bounds nothing is watched, and no timer runs."""
    assert Engine(0, 0, working=True).heartbeat._timer is None


async def test_stuck_engine_loses_no_stream(fleet_of, request_for, collector, echo):
    """An engine that stands still in a live worker: its streams go on elsewhere, and the worker is started again."""
    async with fleet_of("workers=2,stuck_s=0.4,canary_s=0", step_s=0.01, stand_at={"worker_0": 20}) as fleet:
        sinks = [collector() for _ in range(4)]
        for index, sink in enumerate(sinks):
            fleet.generate(request_for([index, *PROMPT], max_tokens=40), sink)
        for index, sink in enumerate(sinks):
            await sink.end(60)
            assert sink.error is None
            assert echo.continuation([index, *PROMPT], 40) == sink.tokens
        await fleet.events.until("worker_ready", 3, 60)
        assert fleet.workers.by_name["worker_0"].hung == 1
        assert fleet.workers.by_name["worker_1"].hung == 0


async def test_canary_finds_an_engine_that_died_in_its_sleep(fleet_of):
    """A worker that would never answer again is found while nobody asks it for anything."""
    async with fleet_of("workers=2,stuck_s=0.3,canary_s=0.3", stand_at={"worker_1": 0}) as fleet:
        lost = await fleet.events.until("worker_lost", within_s=60)
        assert lost.worker == "worker_1"
        await fleet.events.until("worker_ready", 3, 60)
        assert fleet.workers.by_name["worker_0"].hung == 0


async def test_canaries_are_counted(fleet_of):
    """An idle worker that answers its canaries stays, and tells how many there were."""
    async with fleet_of("stuck_s=30,canary_s=0.05") as fleet:
        worker = fleet.workers.by_name["worker_0"]
        pid, told = worker.pid, asyncio.Event()
        take = worker._take

        def seen(frame) -> None:
            take(frame)
            if worker.gauges.get("tritium_worker_canaries_total", 0) >= 2:
                told.set()

        worker._process._channel._on_frame = seen
        await asyncio.wait_for(told.wait(), 60)
        assert worker.pid == pid


async def test_an_engine_that_refuses_its_canary_is_awake(fleet_of, request_for, collector):
    """What an engine does not take of a canary is no reason to end it."""
    async with fleet_of("stuck_s=0.2,canary_s=0.05", refuse_below=1) as fleet:
        worker = fleet.workers.by_name["worker_0"]
        pid = worker.pid
        async with asyncio.timeout(60):
            while worker.gauges.get("tritium_worker_canaries_total", 0) < 12:
                # Gauges are told after a step; canaries come while there is none.
                fleet.generate(request_for(PROMPT), sink := collector())
                await sink.end()
                await asyncio.sleep(0.2)
        assert worker.pid == pid
