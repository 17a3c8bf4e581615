"""Fronts that know by NATS what workers hold, whichever front a prompt came by, and what becomes of it without NATS."""

import asyncio

import httpx
import pytest
from qa.e2e.cluster import WorkerProcess, metric, start_front, until_metric
from qa.unit.cluster.nats_server import NatsServer

WITHIN_S = 120


async def ask(front, text):
    """Send a completion; return the tokens that were found cached."""
    body = {"model": "tiny_chat", "prompt": text, "max_tokens": 1}
    async with httpx.AsyncClient(timeout=WITHIN_S) as client:
        answer = await client.post(f"http://{front.url('OpenAI')}/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


async def known(front):
    """Return how many blocks a front knows of."""
    return await asyncio.to_thread(metric, front, "tritium_router_index_blocks")


async def until_more(front, than, name="tritium_router_index_blocks"):
    """Wait until a front knows of more blocks."""
    await until_metric(front, name, lambda value: value > than)


@pytest.mark.server("nats-server")
async def test_fronts_know_by_nats_and_without_it(tmp_path):
    """A prompt sent by one front is found by the other; so it is while NATS is killed, later, and after its return.

    Takes some 15 s: it starts two workers and two fronts, and waits out the grace of changes that are late.
    """
    nats = NatsServer()
    await nats.start()
    discovery, events = f"file:{tmp_path / 'discovery'}", f"--events={nats.address}"
    running = []

    async def start(what, *arguments):
        started = await asyncio.to_thread(what, *arguments)
        running.append(started.kill)
        return started

    try:
        await asyncio.gather(*(start(WorkerProcess, name, discovery, events) for name in ("first", "second")))
        one, other = await asyncio.gather(
            *(start(start_front, discovery, tmp_path / "cards", events) for _ in range(2))
        )
        for front in (one, other):
            await until_metric(front, "tritium_workers", lambda value: value == 2, state="ready")
            await until_metric(front, "tritium_events_connected", lambda value: value == 1)
        assert await ask(one, "a first story " * 20) == 0
        await until_more(other, 0)
        assert await ask(other, "a first story " * 20) > 0
        assert await asyncio.to_thread(metric, other, "tritium_events_received_total") >= 1

        nats.kill()
        await until_metric(other, "tritium_events_connected", lambda value: value == 0)
        assert await ask(other, "a first story " * 20) > 0, "what was known stays in use"
        before = await known(other)
        assert await ask(one, "quite another tale " * 20) == 0
        await until_more(other, before)
        assert await ask(other, "quite another tale " * 20) > 0
        await nats.start()
        for front in (one, other):
            await until_metric(front, "tritium_events_connected", lambda value: value == 1)
        received = await asyncio.to_thread(metric, other, "tritium_events_received_total")
        assert await ask(one, "the last of three " * 20) == 0
        await until_more(other, received, "tritium_events_received_total")
        assert await ask(other, "the last of three " * 20) > 0
    finally:
        for kill in running:
            kill()
        nats.close()
