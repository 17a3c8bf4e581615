"""A fleet of real worker processes, with an engine that can be predicted and broken."""

import asyncio
import os
import re
import signal

from tritium.core.errors import (
    Internal,
    InvalidArgument,
    ModelFailed,
    NotFound,
    Overloaded,
    Unavailable,
    WorkerLost,
)

PROMPT = list(range(1, 14))


async def test_generates(fleet_of, request_for, collector, echo):
    """A prompt goes to a worker, and its tokens come back in order, with what the cache held."""
    async with fleet_of() as fleet:
        sink = collector()
        handle = fleet.generate(request_for(PROMPT), sink)
        await sink.end()
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert sink.finish == "length"
        assert sink.cached_tokens == 0
        assert handle.route.worker == "worker_0"
        again = collector()
        fleet.generate(request_for(PROMPT), again)
        await again.end()
        assert again.cached_tokens == 12


async def test_shared_prefix_returns_to_its_holder(fleet_of, request_for, collector):
    """What a worker has cached draws the next prompt with that beginning, and the route says so."""
    async with fleet_of("workers=3") as fleet:
        prefix = list(range(100, 140))
        first = fleet.generate(request_for([*prefix, 1, 2]), sink := collector())
        await sink.end()
        for last in (3, 4, 5):
            explained = fleet.explain([*prefix, last, 9])
            handle = fleet.generate(request_for([*prefix, last, 9]), sink := collector())
            await sink.end()
            assert handle.route.worker == first.route.worker == explained.worker
            assert handle.route.overlap_blocks == explained.overlap_blocks == 10
            assert handle.route.because == "overlap 10/11 blocks, 0 active"
            assert sink.cached_tokens == 40
        assert {candidate.worker for candidate in explained.candidates} == {"worker_0", "worker_1", "worker_2"}
        other = fleet.generate(request_for(range(500, 540)), sink := collector())
        await sink.end()
        assert other.route.worker != first.route.worker


async def test_salts_do_not_share(fleet_of, request_for, collector):
    """A prompt under another salt overlaps nothing and is served nothing from the cache."""
    async with fleet_of() as fleet:
        fleet.generate(request_for(PROMPT, cache_salt="a"), sink := collector())
        await sink.end()
        assert [fleet.explain(PROMPT, cache_salt=salt).overlap_blocks for salt in ("a", "b", "")] == [3, 0, 0]
        handle = fleet.generate(request_for(PROMPT, cache_salt="b"), sink := collector())
        await sink.end()
        assert (handle.route.overlap_blocks, sink.cached_tokens) == (0, 0)
        handle = fleet.generate(request_for(PROMPT, cache_salt="a"), sink := collector())
        await sink.end()
        assert (handle.route.overlap_blocks, sink.cached_tokens) == (3, 12)


async def test_killed_worker_hands_its_streams_over(fleet_of, request_for, collector, echo):
    """kill -9 in mid-stream: the other worker goes on where it stood, and usage stays as if nothing had happened."""
    async with fleet_of("workers=2", step_s=0.02) as fleet:
        sinks = [collector() for _ in range(6)]
        handles = [
            fleet.generate(request_for([index, *PROMPT], max_tokens=40), sink) for index, sink in enumerate(sinks)
        ]
        for sink in sinks:
            await sink.grown(5)
        assert {handle.route.worker for handle in handles} == {"worker_0", "worker_1"}
        os.kill(fleet.workers.by_name["worker_0"].pid, signal.SIGKILL)
        for index, sink in enumerate(sinks):
            await sink.end()
            assert sink.error is None
            assert echo.continuation([index, *PROMPT], 40) == sink.tokens
            assert sum(delta.cached_tokens is not None for delta in sink.deltas) == 1
        assert any("moved from worker_0 after" in handle.route.because for handle in handles)
        lost = await fleet.events.until("worker_lost")
        assert lost.worker == "worker_0"
        assert re.fullmatch(r"process \d+ (hung up|was killed by SIGKILL)", lost.detail)
        await fleet.events.until("worker_ready", 3)
        assert fleet.ready
        samples = {name: value for name, labels, value in fleet.metrics() if "worker" not in labels}
        assert samples["tritium_fleet_moved_requests_total"] == 3
        assert samples["tritium_fleet_active_requests"] == 0


async def test_only_worker_lost_in_mid_stream(fleet_of, request_for, collector, echo):
    """With nobody to go on, a started stream waits for the restart as one does that comes then, and goes on."""
    async with fleet_of("workers=1", step_s=0.005) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=80), started := collector())
        await started.grown(2)
        os.kill(fleet.workers.by_name["worker_0"].pid, signal.SIGKILL)
        await fleet.events.until("worker_lost")
        assert not fleet.ready
        fleet.generate(request_for(PROMPT), held := collector())
        assert (await started.end()).tokens == echo.continuation(PROMPT, 80)
        assert (await held.end()).finish == "length"
        assert fleet.ready


async def test_every_worker_lost_for_too_long(fleet_of, request_for, collector):
    """A started stream for which no worker comes back within `hold_s` fails, and says whose loss it was."""
    # A worker is started again after 0.25 s at the earliest.
    async with fleet_of("workers=1,hold_s=0.1", step_s=0.02) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=500), started := collector())
        await started.grown(2)
        os.kill(fleet.workers.by_name["worker_0"].pid, signal.SIGKILL)
        await started.end()
        assert isinstance(started.error, WorkerLost)
        assert started.error.message == "worker worker_0 was lost under the request"
        assert "no worker of model 'echo' became ready within 0.1 s" in started.error.hint


async def test_moves_switched_off(fleet_of, request_for, collector):
    """With moves=0 a request fails with its worker, and says which setting made it so."""
    async with fleet_of("workers=2,moves=0", step_s=0.02) as fleet:
        handle = fleet.generate(request_for(PROMPT, max_tokens=500), started := collector())
        await started.grown(2)
        os.kill(fleet.workers.by_name[handle.route.worker].pid, signal.SIGKILL)
        await started.end()
        assert isinstance(started.error, WorkerLost)
        assert "moves=0" in started.error.hint


async def test_request_that_kills_workers_is_stopped(fleet_of, request_for, collector):
    """A request under which worker after worker dies is given up, not passed on for ever."""
    async with fleet_of("workers=2") as fleet:
        fleet.generate(request_for(PROMPT, sampling={"exit": True}), sink := collector())
        await sink.end()
        assert isinstance(sink.error, WorkerLost)
        assert "it has lost 3 workers already" in sink.error.hint
        fleet.generate(request_for(PROMPT), sink := collector())
        assert (await sink.end()).finish == "length"


async def test_cancel_reaches_the_engine(fleet_of, request_for, collector):
    """A cancelled generation says nothing more, leaves the engine, and gives its load back."""
    async with fleet_of(step_s=0.01) as fleet:
        handle = fleet.generate(request_for(PROMPT, max_tokens=100_000), sink := collector())
        await sink.grown(3)
        handle.cancel()
        handle.cancel()
        count = len(sink.tokens)
        fleet.generate(request_for(PROMPT), other := collector())
        await other.end()
        assert len(sink.tokens) == count
        assert not sink.over.is_set()
        assert not fleet.flights
        assert [load.active for load in fleet.workers.generating.loads] == [0]
        await asyncio.wait_for(fleet.close(), 60)


async def test_failing_sequence_harms_no_other(fleet_of, request_for, collector):
    """An engine's failure of one sequence is that request's ModelFailed; what the engine refuses is InvalidArgument."""
    async with fleet_of(step_s=0.01) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=20), good := collector())
        fleet.generate(request_for(PROMPT, sampling={"boom": True}), bad := collector())
        fleet.generate(request_for(PROMPT, sampling={"refuse": True}), refused := collector())
        for sink in (good, bad, refused):
            await sink.end()
        assert isinstance(bad.error, ModelFailed)
        assert bad.error.message == "boom"
        assert isinstance(refused.error, InvalidArgument)
        assert len(good.tokens) == 20


async def test_request_that_an_engine_chokes_on_harms_no_other(fleet_of, request_for, collector, echo):
    """An engine that raises on being handed a sequence fails that one; its worker and the others there go on."""
    async with fleet_of(step_s=0.01) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=20), good := collector())
        await good.grown(1)
        pid = fleet.workers.by_name["worker_0"].pid
        fleet.generate(request_for(PROMPT, sampling={"choke": True}), bad := collector())
        await bad.end()
        await good.end()
        assert echo.continuation(PROMPT, 20) == good.tokens
        assert isinstance(bad.error, ModelFailed)
        assert bad.error.message == "ValueError: negative width"
        assert fleet.workers.by_name["worker_0"].pid == pid


async def test_answer_that_is_too_large_harms_no_other(fleet_of, request_for, collector, echo):
    """What an engine makes of one sequence and no frame holds fails that one; the rest of the step arrives."""
    async with fleet_of(step_s=0.01) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=20), good := collector())
        fleet.generate(request_for(PROMPT, sampling={"huge": True}), bad := collector())
        await bad.end()
        await good.end()
        assert echo.continuation(PROMPT, 20) == good.tokens
        assert isinstance(bad.error, InvalidArgument)
        assert "cannot be sent: a frame of" in bad.error.message


async def test_sink_that_raises_harms_no_other(fleet_of, request_for, collector):
    """A sink's own exception costs neither the worker nor the other streams, and the sink is told of its end."""

    class Raising(collector):
        def on_delta(self, delta):
            raise RuntimeError("a sink's fault")

    async with fleet_of(step_s=0.01) as fleet:
        fleet.generate(request_for(PROMPT), bad := Raising())
        fleet.generate(request_for(PROMPT), good := collector())
        assert len((await good.end()).tokens) == 8
        assert type((await bad.end()).error) is Internal


async def test_refuses(fleet_of, request_for, collector):
    """What no worker could take fails at once and says why."""
    cases = [
        ([], "", InvalidArgument, "the prompt is empty"),
        (list(range(10_000)), "", InvalidArgument, "the model's context is 10000"),
        ([-1], "", InvalidArgument, "token ids"),
        ([2**40], "", InvalidArgument, "token ids"),
        (["a"], "", InvalidArgument, "token ids"),
        ([1, 2], "worker_9", NotFound, "the model has no worker 'worker_9'"),
    ]
    async with fleet_of() as fleet:
        for tokens, pinned, error, words in cases:
            fleet.generate(request_for(tokens, worker=pinned), sink := collector())
            await sink.end()
            assert isinstance(sink.error, error)
            assert words in sink.error.message


async def test_refuses_what_no_frame_holds(fleet_of, request_for, collector):
    """A number beyond 64 bits fails its request, and takes up no place afterwards."""
    async with fleet_of("max_requests=3") as fleet:
        for _ in range(5):
            fleet.generate(request_for(PROMPT, sampling={"stop_token_ids": [2**70]}), sink := collector())
            await sink.end()
            assert isinstance(sink.error, InvalidArgument)
            assert "cannot be sent to a worker" in sink.error.message
            fleet.generate(request_for(PROMPT, priority=2**70), sink := collector())
            await sink.end()
            assert isinstance(sink.error, InvalidArgument)
        fleet.generate(request_for(PROMPT), sink := collector())
        assert len((await sink.end()).tokens) == 8


async def test_pins(fleet_of, request_for, collector):
    """A pinned request goes to its worker whatever the others hold."""
    async with fleet_of("workers=2") as fleet:
        fleet.generate(request_for(PROMPT, worker="worker_1"), sink := collector())
        await sink.end()
        handle = fleet.generate(request_for(PROMPT, worker="worker_0"), sink := collector())
        await sink.end()
        assert handle.route.worker == "worker_0"
        assert handle.route.because.startswith("pinned; overlap 0/4")


async def test_bounds(fleet_of, request_for, collector):
    """Beyond max_requests a request is refused; one held longer than hold_s fails as Unavailable."""
    async with fleet_of("workers=1,max_requests=2,hold_s=0.05", step_s=0.05) as fleet:
        sinks = [collector() for _ in range(3)]
        for sink in sinks:
            fleet.generate(request_for(PROMPT), sink)
        assert isinstance(sinks[2].error, Overloaded)
        for sink in sinks:
            await sink.end()
        os.kill(fleet.workers.by_name["worker_0"].pid, signal.SIGKILL)
        await fleet.events.until("worker_lost")
        fleet.generate(request_for(PROMPT), held := collector())
        await held.end()
        assert isinstance(held.error, Unavailable)
        assert "became ready within 0.05 s" in held.error.message
        await fleet.events.until("worker_ready", 2)


async def test_close_lets_streams_finish(fleet_of, request_for, collector):
    """Closing refuses new requests and lets those under way end, also where the fleet has been idle before."""
    async with fleet_of(step_s=0.01) as fleet:
        fleet.generate(request_for(PROMPT), earlier := collector())
        await earlier.end()
        fleet.generate(request_for(PROMPT, max_tokens=30), sink := collector())
        await sink.grown(1)
        closing = asyncio.create_task(fleet.close())
        await asyncio.sleep(0)
        fleet.generate(request_for(PROMPT), late := collector())
        assert isinstance(late.error, Unavailable)
        await closing
        assert len(sink.tokens) == 30
        assert sink.finish == "length"


async def test_close_cuts_what_does_not_end(fleet_of, request_for, collector):
    """A stream longer than drain_s is cut, and told."""
    async with fleet_of("drain_s=0.05", step_s=0.01) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=100_000), sink := collector())
        await sink.grown(1)
        await fleet.close()
        assert isinstance(sink.error, Unavailable)


async def test_many_kills(fleet_of, request_for, collector, echo):
    """Workers die under load one after the other: every stream ends as it would have, and nothing stays booked."""
    async with fleet_of("workers=3,moves=9", step_s=0.01) as fleet:
        streams = []
        for kill in range(4):
            for index in range(40):
                prompt, sink = [index % 9, *PROMPT, kill, index], collector()
                fleet.generate(request_for(prompt, max_tokens=60), sink)
                streams.append((prompt, sink))
            await sink.grown(1 + 5 * kill)
            os.kill(fleet.workers.by_name[f"worker_{kill % 3}"].pid, signal.SIGKILL)
            await fleet.events.until("worker_ready", 4 + kill)
        for prompt, sink in streams:
            await sink.end()
            assert sink.error is None
            assert echo.continuation(prompt, 60) == sink.tokens
        assert len(fleet.flights) == 0
        assert not any(
            load.active or load.prefill_blocks or load.decode_blocks for load in fleet.workers.generating.loads
        )
        moved = next(value for name, _, value in fleet.metrics() if name == "tritium_fleet_moved_requests_total")
        assert moved >= 1


async def test_frozen_worker_is_replaced(fleet_of, request_for, collector, echo):
    """A worker that is stopped (SIGSTOP) is noticed by its silence: its streams go on elsewhere, and it comes back."""
    async with fleet_of("workers=2,silent_s=1.5", step_s=0.05) as fleet:
        sinks = [collector() for _ in range(4)]
        for index, sink in enumerate(sinks):
            fleet.generate(request_for([index, *PROMPT], max_tokens=60), sink)
        for sink in sinks:
            await sink.grown(3)
        frozen = fleet.workers.by_name["worker_1"].pid
        os.kill(frozen, signal.SIGSTOP)
        lost = await fleet.events.until("worker_lost")
        assert lost.worker == "worker_1"
        assert lost.detail == "it gave no sign of life for 1.5 s"
        for index, sink in enumerate(sinks):
            await sink.end()
            assert sink.error is None
            assert echo.continuation([index, *PROMPT], 60) == sink.tokens
        await fleet.events.until("worker_ready", 3)
        assert fleet.workers.by_name["worker_1"].pid != frozen
        assert fleet.workers.by_name["worker_1"].hung == 1


async def test_only_worker_frozen(fleet_of, request_for, collector, echo):
    """With nobody to go on, the fleet is not ready until the worker is back; then everything is served."""
    async with fleet_of("silent_s=1", step_s=0.04) as fleet:
        fleet.generate(request_for(PROMPT, max_tokens=50), started := collector())
        await started.grown(2)
        os.kill(fleet.workers.by_name["worker_0"].pid, signal.SIGSTOP)
        await fleet.events.until("worker_lost")
        assert not fleet.ready
        fleet.generate(request_for(PROMPT), held := collector())
        assert (await started.end()).tokens == echo.continuation(PROMPT, 50)
        assert (await held.end()).error is None
        assert fleet.ready


async def test_idle_worker_is_left_alone(fleet_of, request_for, collector):
    """A worker with nothing to do answers pings, and is the same one many beats later."""
    async with fleet_of("silent_s=1") as fleet:
        worker = fleet.workers.by_name["worker_0"]
        pid, pings = worker.pid, []
        send = worker._process.send
        enough = asyncio.Event()

        def counted(*frames):
            pings.extend(frames)
            if len(pings) >= 9:
                enough.set()
            send(*frames)

        worker._process.send = counted
        await asyncio.wait_for(enough.wait(), 60)
        assert worker.ready
        assert worker.pid == pid
