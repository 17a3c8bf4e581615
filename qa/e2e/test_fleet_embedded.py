"""Fleets of embedded engines on the sample model: the same questions as to vLLM, answered in seconds."""

import asyncio
import os
import signal

import pytest
from qa.e2e.fleets import Sink, ask, generate, sample_fleet, sample_prompts, samples, token_kv_bytes, until


@pytest.fixture(scope="module")
def prompts():
    return sample_prompts()


async def test_disaggregated_equals_single(prompts):
    """Prefilled on one worker and decoded on another, every token is the single worker's; the bytes are counted."""
    single = await sample_fleet("workers=1", "embedded")
    split = await sample_fleet("prefill=1,decode=1", "embedded")
    moved = 0
    try:
        for length, tokens in prompts.items():
            _, expected = await ask(single, tokens)
            route, actual = await ask(split, tokens)
            assert actual.error is None
            assert expected.tokens == actual.tokens, f"prompt of {length} tokens"
            assert (route.prefill_worker == "prefill_0") == (length >= 32), route.because
            moved += length if length >= 32 else 0
        await until(
            lambda: samples(split, "tritium_kv_received_bytes_total").get("decode_0", 0) >= moved * token_kv_bytes()
        )
        assert samples(split, "tritium_fleet_prefill_fallbacks_total")[""] == 0
        # How KV moves was tried before the first request, on one worker for all.
        assert samples(split, "tritium_transfer_checked_bytes_per_second")["prefill_0"] > 1 << 20
        assert split.shape.startswith("1 prefill + 1 decode, KV by ")
    finally:
        await single.close()
        await split.close()


async def test_shared_prefix_goes_to_its_holder(prompts):
    """Each of two prefixes has its worker, and prompts that begin with one go there, by what the engines told."""
    fleet = await sample_fleet("workers=2", "embedded")
    try:
        homes = {}
        for name, prefix in (("a", prompts[160]), ("b", prompts[301][100:260])):
            route, _ = await ask(fleet, [*prefix, 11])
            homes[name] = route.worker
        assert set(homes.values()) == {"worker_0", "worker_1"}
        for last in range(20, 24):
            for name, prefix in (("a", prompts[160]), ("b", prompts[301][100:260])):
                route, sink = await ask(fleet, [*prefix, last])
                assert route.worker == homes[name]
                assert route.because == "overlap 5/6 blocks, 0 active"
                assert sink.cached_tokens == 160
    finally:
        await fleet.close()


async def test_killed_worker(prompts):
    """kill -9 of a worker in mid-stream: every stream ends as if nothing had happened."""
    fleet = await sample_fleet("workers=2", "embedded")
    try:
        _, expected = await ask(fleet, prompts[97], 300)
        sink = Sink(at=5, then=lambda: os.kill(fleet.workers.by_name[streams[0][0].route.worker].pid, signal.SIGKILL))
        streams = [generate(fleet, prompts[97], 300, sink=sink)]
        streams += [generate(fleet, prompts[97], 300) for _ in range(5)]
        for _, sink in streams:
            await asyncio.wait_for(sink.over.wait(), 60)
            assert sink.error is None
            assert expected.tokens == sink.tokens
        assert "moved from" in streams[0][0].route.because
    finally:
        await fleet.close()
