"""Prompts that a fleet pools, on real worker processes."""

import asyncio
import os
import signal
import struct

import pytest
from qa.unit.cluster.remote_fleet import until

from tritium.cluster.fleet import PoolRequest
from tritium.cluster.frames import Abort
from tritium.core.errors import InvalidArgument, ModelFailed, Overloaded, Unavailable, WorkerLost

TASKS = ["generate", "embed"]


def asked(tokens=(1, 2, 3), task="embed", **rest):
    return PoolRequest(list(tokens), task, **rest)


def numbers(pooled):
    return struct.unpack(f"<{len(pooled.data) // 4}f", pooled.data)


async def test_pools(fleet_of, request_for, collector):
    """Every prompt gets its own numbers, many at once and beside generations."""
    async with fleet_of("workers=2", tasks=TASKS) as fleet:
        fleet.generate(request_for([1, 2, 3]), sink := collector())
        prompts = [list(range(count)) for count in range(1, 30)]
        found = await asyncio.gather(*(fleet.pool(asked(prompt)) for prompt in prompts))
        assert [numbers(pooled) for pooled in found] == [(sum(prompt), len(prompt)) for prompt in prompts]
        assert {tuple(pooled.shape) for pooled in found} == {(2,)}
        await sink.end()
        assert len(fleet.poolings) == 0
        assert [load.active for load in fleet.workers.generating.loads] == [0, 0]


REFUSALS = [
    (asked(task="score"), InvalidArgument, "does not score: its engine echo loaded it to generate, embed"),
    (asked(task="generate"), InvalidArgument, "does not generate"),
    (asked(tokens=[]), InvalidArgument, "no tokens"),
    (asked(tokens=range(10_001)), InvalidArgument, "10001 tokens; the model's context is 10000"),
    (asked(parameters={"refuse": True}), InvalidArgument, "no parameter 'refuse'"),
    (asked(parameters={"boom": True}), ModelFailed, "boom"),
    (asked(parameters={"choke": True}), ModelFailed, "ValueError: negative width"),
    (asked(parameters={"x": 1 << 70}), InvalidArgument, "cannot be sent"),
    (asked(parameters={"huge": True}), InvalidArgument, "cannot be sent: a frame of"),
]


async def test_failures(fleet_of):
    """What the model does not do, and what its engine refuses, is told; nothing is left of it, the next is served."""
    async with fleet_of(tasks=TASKS) as fleet:
        for request, error, words in REFUSALS:
            with pytest.raises(error, match=words):
                await fleet.pool(request)
            assert len(fleet.poolings) == 0
            assert [load.active for load in fleet.workers.generating.loads] == [0]
        assert (await fleet.pool(asked())).shape == [2]


async def test_lost_worker(fleet_of):
    """A prompt under which a worker dies is pooled elsewhere, and given up when it kills every worker it meets."""
    async with fleet_of("workers=3", tasks=TASKS) as fleet:
        with pytest.raises(WorkerLost, match="4 workers were lost under the request"):
            await fleet.pool(asked(parameters={"exit": True}))
        await fleet.events.until("worker_ready", 6)
        assert numbers(await fleet.pool(asked())) == (6, 3)


async def test_pinned_to_a_worker_that_starts_again(fleet_of):
    """A prompt for a certain worker waits until that one is back, whoever else is there."""
    async with fleet_of("workers=2", tasks=TASKS) as fleet:
        worker = fleet.workers.by_name["worker_1"]
        os.kill(worker.pid, signal.SIGKILL)
        await fleet.events.until("worker_lost", 1)
        assert numbers(await fleet.pool(asked(worker="worker_1"))) == (6, 3)
        assert worker.restarts == 1


async def test_cancelled(fleet_of):
    """A call that is cancelled is cancelled in the engine."""
    async with fleet_of(tasks=TASKS, slow_pool=True) as fleet:
        process = fleet.workers.by_name["worker_0"]._process
        sent, send = [], process.send
        process.send = lambda *frames: (sent.extend(frames), send(*frames))
        call = asyncio.create_task(fleet.pool(asked()))
        await asyncio.sleep(0)  # the call begins
        assert len(fleet.poolings) == 1
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert len(fleet.poolings) == 0
        assert any(isinstance(frame, Abort) for frame in sent)


async def test_bounds(fleet_of):
    """More prompts than the fleet takes are refused, and those under way fail when it closes."""
    async with fleet_of("max_requests=1,drain_s=0.1", tasks=TASKS, slow_pool=True) as fleet:
        call = asyncio.create_task(fleet.pool(asked()))
        await asyncio.sleep(0)  # the call begins
        assert len(fleet.poolings) == 1
        with pytest.raises(Overloaded, match="1 requests under way"):
            await fleet.pool(asked())
    with pytest.raises(Unavailable, match="is unloading"):
        await call


async def test_own_metrics(fleet_of):
    """What an engine measures itself is passed on with the worker's name, under its own."""
    async with fleet_of("workers=2", tasks=TASKS) as fleet:
        await until(lambda: len(_echoed(fleet)) == 4)
        own = _echoed(fleet)
        assert sorted((one.suffix, one.kind, one.labels["worker"], one.value) for one in own) == [
            (suffix, "histogram", worker, value)
            for suffix, value in (("_count", 3.0), ("_sum", 1.5))
            for worker in ("worker_0", "worker_1")
        ]
        assert {one.labels["model_name"] for one in own} == {"echo"}
        info = [labels for name, labels, _ in fleet.metrics() if name == "tritium_engine_info"]
        assert {(labels["engine"], labels["version"]) for labels in info} == {("echo", "1")}


def _echoed(fleet):
    return [one for one in fleet.own_metrics() if one.family == "echo:delay_seconds"]
