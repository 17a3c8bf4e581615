"""Prefill on one worker, decode on another: with the echo engine, whose KV is the prompt itself."""

import os
import signal

from tritium.cluster.flight import own_prefill_sampling
from tritium.core.errors import InvalidArgument

PROMPT = list(range(1, 42))


def _sample(fleet, name):
    return sum(value for sample, _, value in fleet.metrics() if sample == name)


async def test_prefills_elsewhere(fleet_of, request_for, collector, echo):
    """The prompt is computed by the prefill worker and its KV handed to the decode worker, which streams."""
    async with fleet_of("prefill=1,decode=1") as fleet:
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        await sink.end()
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert (handle.route.prefill_worker, handle.route.worker) == ("prefill_0", "decode_0")
        assert handle.route.because == (
            "overlap 0/11 blocks, 0 active; prefilled by prefill_0 (overlap 0/11 blocks, 0 active): 41 uncached tokens"
        )
        assert sink.cached_tokens == 0
        assert _sample(fleet, "tritium_fleet_remote_prefills_total") == 1
        assert [load.active for router in fleet.workers.routers.values() for load in router.loads] == [0, 0]


async def test_what_the_decoder_holds_stays_local(fleet_of, request_for, collector):
    """A prompt whose blocks the decode worker has is not sent round by the prefill worker, and the reason says so."""
    async with fleet_of("prefill=1,decode=1") as fleet:
        fleet.generate(request_for(PROMPT), sink := collector())
        await sink.end()
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        await sink.end()
        assert handle.route.prefill_worker == ""
        assert "local prefill: 1 uncached tokens are less than a block" in handle.route.because
        assert sink.cached_tokens == 40
        assert "local prefill" in fleet.explain(PROMPT).because
        assert fleet.explain(list(range(900, 950))).prefill_worker == "prefill_0"


async def test_cached_tokens_are_those_of_the_prefill(fleet_of, request_for, collector):
    """With two decode workers, usage tells what the prefill worker found cached, whoever decodes."""
    async with fleet_of("prefill=1,decode=2,router=round_robin") as fleet:
        for expected in (0, 40):
            handle = fleet.generate(request_for(PROMPT), sink := collector())
            await sink.end()
            assert handle.route.prefill_worker == "prefill_0"
            assert sink.cached_tokens == expected


async def test_short_prompts_stay_local(fleet_of, request_for, collector):
    """local_prefill_tokens keeps prompts up to that length on the decode worker."""
    async with fleet_of("prefill=1,decode=1,local_prefill_tokens=20") as fleet:
        handle = fleet.generate(request_for(PROMPT[:20]), sink := collector())
        await sink.end()
        assert handle.route.prefill_worker == ""
        handle = fleet.generate(request_for(PROMPT[10:]), sink := collector())
        await sink.end()
        assert handle.route.prefill_worker == "prefill_0"


async def test_transfers_that_do_not_pay(fleet_of, request_for, collector):
    """Once enough transfers were seen to take far longer than the computing, prompts stay; now and then one probes."""
    async with fleet_of("prefill=1,decode=1,router=round_robin,detour=1", step_s=0.4) as fleet:

        async def ask(count, start):
            asked = [(number, collector()) for number in range(count)]
            prompts = [list(range(start + number, start + number + 41)) for number, _ in asked]
            handles = [
                fleet.generate(request_for(prompt, 1), sink) for prompt, (_, sink) in zip(prompts, asked, strict=True)
            ]
            for _, sink in asked:
                await sink.end()
            return handles

        # Eight after the first, which introduces the workers: until then nothing is known of transfers.
        assert all(handle.route.prefill_worker for handle in await ask(9, 1000))
        report = fleet.explain(list(range(5000, 5041)))
        assert (report.prefill.where, report.prefill.reason) == ("local", "detour"), report.because
        assert report.prefill.remote_ms > report.prefill.local_ms
        stayed = await ask(2, 2000)
        assert [handle.route.prefill_worker for handle in stayed] == ["", ""]
        assert "local prefill: 41 uncached tokens: remote" in stayed[0].route.because
        decisions = {
            (labels["where"], labels["reason"]): value
            for name, labels, value in fleet.metrics()
            if name == "tritium_prefill_decisions_total"
        }
        assert decisions == {("remote", "uncached"): 9, ("local", "detour"): 2}
        assert _sample(fleet, "tritium_transfer_moved_tokens_total") == 9 * 41
        assert _sample(fleet, "tritium_transfer_base_seconds") > 0.3


async def test_lost_prefill_worker(fleet_of, request_for, collector, echo):
    """A prefill worker killed under a prompt costs only time: the decode worker prefills, and readiness tells."""
    async with fleet_of("prefill=1,decode=1", prefill_step_s=5.0) as fleet:
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        assert handle.route.prefill_worker == "prefill_0"
        os.kill(fleet.workers.by_name["prefill_0"].pid, signal.SIGKILL)
        await fleet.events.until("worker_lost")
        assert not fleet.ready
        meanwhile = fleet.generate(request_for(PROMPT[5:]), other := collector())
        await sink.end()
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert "prefill by prefill_0 failed (the worker was lost), so prefilled here" in handle.route.because
        await other.end()
        assert "local prefill: no prefill worker is ready" in meanwhile.route.because
        await fleet.events.until("worker_ready", 3)
        assert fleet.ready


async def test_kv_that_does_not_arrive(fleet_of, request_for, collector, echo):
    """When the decode worker cannot fetch the KV it computes the prompt itself."""
    async with fleet_of("prefill=1,decode=1") as fleet:
        handle = fleet.generate(request_for(PROMPT, sampling={"no_transfer": True}), sink := collector())
        await sink.end()
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert "its KV did not arrive (the KV is gone), so prefilled here" in handle.route.because
        assert _sample(fleet, "tritium_fleet_prefill_fallbacks_total") == 1


async def test_refused_by_the_decoder(fleet_of, request_for, collector):
    """What the decode worker refuses is the client's error; it is not tried again."""
    async with fleet_of("prefill=1,decode=1") as fleet:
        fleet.generate(request_for(PROMPT, sampling={"refuse": True}), sink := collector())
        await sink.end()
        assert isinstance(sink.error, InvalidArgument)
        assert _sample(fleet, "tritium_fleet_prefill_fallbacks_total") == 0


async def test_decode_worker_lost_while_prefilling(fleet_of, request_for, collector, echo):
    """A decode worker killed before the KV came: the request is routed again and nothing is left booked."""
    async with fleet_of("prefill=1,decode=2", prefill_step_s=0.3) as fleet:
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        lost = handle.route.worker
        os.kill(fleet.workers.by_name[lost].pid, signal.SIGKILL)
        await sink.end()
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert f"moved from {lost} after 0 tokens" in handle.route.because
        assert not any(load.active for router in fleet.workers.routers.values() for load in router.loads)


async def test_answer_that_the_prefill_ends(fleet_of, request_for, collector, echo):
    """Where the prefill worker samples the first token, and that is the last, nothing is moved and usage is right."""
    async with fleet_of("prefill=1,decode=1", first_token_moves=True) as fleet:
        handle = fleet.generate(request_for(PROMPT, sampling={"one_is_all": True}), sink := collector())
        await sink.end()
        assert (sink.tokens, sink.finish, sink.cached_tokens) == (echo.continuation(PROMPT, 1), "stop", 0)
        assert handle.route.prefill_worker == "prefill_0"
        assert sink.deltas[0].transfer is None
        assert _sample(fleet, "tritium_output_tokens_total") == 1
        assert _sample(fleet, "tritium_transfer_moved_tokens_total") == 0
        assert not any(load.active for router in fleet.workers.routers.values() for load in router.loads)


async def test_decode_workers_that_compute_no_prompts(fleet_of, request_for, collector, echo):
    """Every prompt goes by a prefill worker, waits for one where none is ready, and is tried again where it fails."""
    async with fleet_of("prefill=1,decode=1,local_prefill_tokens=100", decodes_only=True, prefill_step_s=0.05) as fleet:
        handle = fleet.generate(request_for(PROMPT[:2]), sink := collector())
        await sink.end()
        assert echo.continuation(PROMPT[:2], 8) == sink.tokens
        assert "the engine's decode workers compute none" in handle.route.because
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        os.kill(fleet.workers.by_name["prefill_0"].pid, signal.SIGKILL)
        await sink.end(60)
        assert echo.continuation(PROMPT, 8) == sink.tokens
        assert handle.route.prefill_worker == "prefill_0"
        assert (fleet.flights.held.total, fleet.flights.counters.prefill_fallbacks) == (1, 1)
        await fleet.change("workers=2", {})
        handle = fleet.generate(request_for(PROMPT[3:]), sink := collector())
        await sink.end()
        assert (handle.route.prefill_worker, sink.error) == ("", None)


async def test_prefill_that_always_fails(fleet_of, request_for, collector):
    """It is given up with an error after as many tries as the setting has moves."""
    async with fleet_of("prefill=1,decode=1,moves=2", decodes_only=True) as fleet:
        fleet.generate(request_for(PROMPT, sampling={"no_transfer": True}), sink := collector())
        await sink.end()
        assert "its KV did not arrive (the KV is gone), 3 times in all" in sink.error.message
        assert not any(load.active for router in fleet.workers.routers.values() for load in router.loads)


def test_sampling_of_a_first_token():
    """It is the request's own, for one token."""
    own = {"max_tokens": 9, "min_tokens": 4, "temperature": 0.7, "seed": 3}
    assert own_prefill_sampling(own) == {"max_tokens": 1, "min_tokens": 1, "temperature": 0.7, "seed": 3}
    assert own_prefill_sampling({}) == {"max_tokens": 1}


async def test_cancel_while_prefilling(fleet_of, request_for, collector):
    """A request cancelled while it is prefilled is forgotten on both sides."""
    async with fleet_of("prefill=1,decode=1", prefill_step_s=0.2) as fleet:
        handle = fleet.generate(request_for(PROMPT), sink := collector())
        handle.cancel()
        assert not any(load.active for router in fleet.workers.routers.values() for load in router.loads)
        fleet.generate(request_for(PROMPT), other := collector())
        await other.end()
        assert sink.deltas == []
