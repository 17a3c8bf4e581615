"""Real vLLM with tiers below a device cache too small for its conversations: nothing it says may change by them.

Two workers answer all, for vLLM takes half a minute to start: HOLDER holds the conversations, and is killed once; OTHER
holds nothing. What an answer must be is computed by the same worker
under a salt of its own, so that nothing of it is held anywhere.
"""

import asyncio
import importlib.util
import json
import os
import signal

import pytest
import pytest_asyncio
from qa.e2e.fleets import MODEL, TEXT, Sink, ask, generate, samples, token_kv_bytes, until
from tokenizers import Tokenizer

from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet

START_S = 600
BLOCK = 32
TOKENS = 12
HOLDER, OTHER = "prefill_0", "decode_0"
DEVICE_BLOCKS = 36  # one request of the longest context and one block more: vLLM takes no less

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(2 * START_S),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("tiers")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(directory):
    arguments = json.loads((MODEL / "model.json").read_text())
    folder = MODEL / arguments.pop("model")
    arguments["num_gpu_blocks_override"] = DEVICE_BLOCKS
    arguments["kv_tiers"] = f"host=64MiB,disk=256MiB:{directory},disk_min_uses=1,peers={directory}/peers,fetch=always"
    spec = parse_fleet("prefill=1,decode=1,detour=0")
    fleet = await start_fleet(spec, name="tiny_chat", engine="vllm", folder=folder, arguments=arguments)
    await fleet.change("", {HOLDER: "aggregated", OTHER: "aggregated"})
    yield fleet
    await fleet.close()


@pytest.fixture(scope="module")
def conversations():
    """Prompts that begin differently: together more than twice what the device holds."""
    words = Tokenizer.from_file(str(MODEL / "tiny_chat" / "tokenizer.json"))
    tokens = words.encode(TEXT * 24).ids
    return [tokens[7 * place :][: 400 + 40 * place] for place in range(6)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(fleet, conversations):
    """What each conversation is answered when all of it is computed."""
    answers = []
    for place, tokens in enumerate(conversations):
        _, sink = await ask(fleet, tokens, TOKENS, cache_salt=f"computed {place}", worker=HOLDER)
        assert sink.error is None
        assert sink.cached_tokens == 0
        answers.append(sink.tokens)
    return answers


def _own(fleet, family, worker=HOLDER, **labels):
    """Return the sum of a metric of a worker's engine, over the samples with these labels."""
    wanted = {"worker": worker, **labels}
    return sum(
        sample.value
        for sample in fleet.own_metrics()
        if sample.family == family and wanted.items() <= sample.labels.items()
    )


def _hits(fleet, tier, worker=HOLDER):
    return _own(fleet, "tritium_kv_tier_hits_total", worker, tier=tier)


async def _ask_all(fleet, conversations, worker=HOLDER):
    """Ask each conversation once; return answers and how many tokens of each were not computed."""
    answers, cached = [], []
    for tokens in conversations:
        _, sink = await ask(fleet, tokens, TOKENS, worker=worker)
        assert sink.error is None
        answers.append(sink.tokens)
        cached.append(sink.cached_tokens)
    return answers, cached


def _damage(blocks):
    """Change every page of a disk tier's file."""
    with blocks.open("r+b") as file:
        for start in range(0, file.seek(0, os.SEEK_END), 4096):
            file.seek(start)
            file.write(b"\xa5" * 16)


def _held(fleet, tokens, worker=HOLDER):
    """Return what the router knows of a prompt at a worker, by tier."""
    report = fleet.explain(tokens)
    return next(candidate.held for candidate in report.candidates if candidate.worker == worker)


async def test_answers_are_the_same(fleet, conversations, told):
    """Conversations that outgrow the device are answered as if computed, most of them fetched; vLLM and we agree."""
    assert sum(map(len, conversations)) > 2 * BLOCK * DEVICE_BLOCKS
    first, cached = await _ask_all(fleet, conversations)
    assert first == told
    assert sum(cached) == 0
    await until(lambda: _own(fleet, "tritium_kv_tier_blocks", tier="host") > 2 * DEVICE_BLOCKS)
    again, cached = await _ask_all(fleet, conversations)
    assert again == told
    assert sum(cached) > sum(map(len, conversations)) // 2
    await until(lambda: _hits(fleet, "host") * BLOCK == _own(fleet, "vllm:external_prefix_cache_hits_total") > 0)
    by_source = "vllm:prompt_tokens_cached_by_source_total"
    assert _own(fleet, by_source, source="host") == _hits(fleet, "host") * BLOCK
    assert _own(fleet, "tritium_kv_tier_damaged_total") == 0


async def test_several_at_once(fleet, conversations, told):
    """Requests that wait for their blocks and requests that compute do not disturb each other."""
    answered = await asyncio.gather(*(ask(fleet, tokens, TOKENS, worker=HOLDER) for tokens in conversations))
    assert [sink.tokens for _, sink in answered] == told


async def test_a_prompt_goes_to_the_worker_whose_host_tier_holds_it(fleet, conversations, told):
    """Though no device holds it, and says so; the other worker, as free, would have to compute it."""
    await _ask_all(fleet, conversations)
    await until(lambda: not _held(fleet, conversations[0]).device and _held(fleet, conversations[0]).host)
    route, sink = await ask(fleet, conversations[0], TOKENS)
    assert route.worker == HOLDER
    assert "(12 on host, 0 on disk)" in route.because, route.because
    assert sink.tokens == told[0]
    assert sink.cached_tokens == 12 * BLOCK


async def test_the_other_worker_reads_from_its_host_memory(fleet, conversations, told):
    """A worker that is given a prompt that another holds fetches it from there, and answers alike."""
    async with asyncio.timeout(START_S):
        # vLLM's scheduler hears with its steps what peers hold; this worker has made none yet.
        while _own(fleet, "tritium_kv_tier_blocks", OTHER, tier="peer") <= 2 * DEVICE_BLOCKS:
            await ask(fleet, conversations[0][-9:], 1, worker=OTHER)
    assert _own(fleet, "tritium_kv_store_peers", OTHER) == 1
    _, sink = await ask(fleet, conversations[1], TOKENS, worker=OTHER)
    assert (sink.error, sink.tokens) == (None, told[1])
    assert sink.cached_tokens == len(conversations[1]) // BLOCK * BLOCK
    await until(lambda: _hits(fleet, "peer", OTHER) == len(conversations[1]) // BLOCK)


async def test_prompts_move_from_a_tier_to_the_decoder(fleet, conversations, told):
    """One fetches a prompt from its host tier, NIXL moves it to the other, and the answer is as if computed there."""
    await fleet.change("", {HOLDER: "prefill", OTHER: "decode"})
    fetched, received = _hits(fleet, "host"), samples(fleet, "tritium_kv_received_bytes_total").get(OTHER, 0)
    for tokens, answer in zip(conversations[2:], told[2:], strict=True):
        route, sink = await ask(fleet, tokens, TOKENS)
        assert (route.prefill_worker, route.worker) == (HOLDER, OTHER), route.because
        assert (sink.error, sink.tokens) == (None, answer)
    moved = sum(len(tokens) for tokens in conversations[2:]) * token_kv_bytes()
    await until(lambda: samples(fleet, "tritium_kv_received_bytes_total").get(OTHER, 0) - received >= moved)
    await until(lambda: _hits(fleet, "host") > fetched)
    await fleet.change("", {HOLDER: "aggregated", OTHER: "aggregated"})


async def test_disk_is_found_again_and_damage_is_computed(fleet, conversations, told, directory):
    """kill -9 amid loads changes no answer; then the disk tier serves what it held, and computes what was changed."""
    await until(lambda: _own(fleet, "tritium_kv_tier_blocks", tier="disk") > 2 * DEVICE_BLOCKS)
    worker = fleet.workers.by_name[HOLDER]
    killed = worker.pid
    # Killed at the first token of the first, while the others wait for their blocks: they go on at the other worker.
    first = Sink(at=1, then=lambda: os.kill(killed, signal.SIGKILL))
    sinks = [generate(fleet, tokens, TOKENS, sink=first)[1] for tokens in conversations[3:4]]
    sinks += [generate(fleet, tokens, TOKENS)[1] for tokens in conversations[4:]]
    await asyncio.wait_for(asyncio.gather(*(sink.over.wait() for sink in sinks)), START_S)
    assert [(sink.error, sink.tokens) for sink in sinks] == [(None, answer) for answer in told[3:]]
    await until(lambda: worker.pid not in (0, killed) and worker.ready, START_S)
    # Beside NIXL vLLM's scheduler hears with the first step what the tiers hold.
    await ask(fleet, conversations[0][-9:], 1, worker=HOLDER)
    answers, cached = await _ask_all(fleet, conversations[:3])
    assert answers == told[:3]
    assert all(cached)
    await until(lambda: _hits(fleet, "disk") > 0)
    for blocks in directory.rglob("blocks.dat"):
        _damage(blocks)
    answers, _ = await _ask_all(fleet, conversations[:3])
    assert answers == told[:3]
    await until(lambda: _own(fleet, "tritium_kv_tier_damaged_total", tier="disk") > 0)
