"""Real vLLM with tiers below a device cache too small for its conversations: nothing it says may change by them.

One worker answers all: vLLM takes half a minute to start, and once more after it was killed. What an answer must be is
computed by the same worker under a salt of its own, so that nothing of it is held anywhere.
"""

import asyncio
import importlib.util
import json
import os
import signal

import pytest
import pytest_asyncio
from qa.e2e.fleets import MODEL, TEXT, ask, until
from tokenizers import Tokenizer

from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet

START_S = 300
BLOCK = 32
TOKENS = 12
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
    arguments["kv_tiers"] = f"host=64MiB,disk=256MiB:{directory},disk_min_uses=1,fetch=always"
    fleet = await start_fleet(
        parse_fleet("workers=1"), name="tiny_chat", engine="vllm", folder=folder, arguments=arguments
    )
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
        _, sink = await ask(fleet, tokens, TOKENS, cache_salt=f"computed {place}")
        assert sink.error is None
        assert sink.cached_tokens == 0
        answers.append(sink.tokens)
    return answers


def _own(fleet, family, **labels):
    """Return the sum of a metric of the engine's own, over the samples with these labels."""
    return sum(
        sample.value
        for sample in fleet.own_metrics()
        if sample.family == family and labels.items() <= sample.labels.items()
    )


def _hits(fleet, tier):
    return _own(fleet, "tritium_kv_tier_hits_total", tier=tier)


async def _ask_all(fleet, conversations):
    """Ask each conversation once; return answers and how many tokens of each were not computed."""
    answers, cached, reasons = [], [], []
    for tokens in conversations:
        route, sink = await ask(fleet, tokens, TOKENS)
        assert sink.error is None
        answers.append(sink.tokens)
        cached.append(sink.cached_tokens)
        reasons.append(route.because)
    return answers, cached, reasons


async def test_answers_are_the_same(fleet, conversations, told):
    """Conversations that outgrow the device are answered as if computed, most of them fetched; vLLM and we agree."""
    assert sum(map(len, conversations)) > 2 * BLOCK * DEVICE_BLOCKS
    first, cached, _ = await _ask_all(fleet, conversations)
    assert first == told
    assert sum(cached) == 0
    await until(lambda: _own(fleet, "tritium_kv_tier_blocks", tier="host") > 2 * DEVICE_BLOCKS)
    again, cached, reasons = await _ask_all(fleet, conversations)
    assert again == told
    assert sum(cached) > sum(map(len, conversations)) // 2
    assert any("on host" in because for because in reasons), reasons
    await until(lambda: _hits(fleet, "host") * BLOCK == _own(fleet, "vllm:external_prefix_cache_hits_total") > 0)
    assert _own(fleet, "tritium_kv_tier_damaged_total") == 0


async def test_several_at_once(fleet, conversations, told):
    """Requests that wait for their blocks and requests that compute do not disturb each other."""
    answered = await asyncio.gather(*(ask(fleet, tokens, TOKENS) for tokens in conversations))
    assert [sink.tokens for _, sink in answered] == told


async def test_disk_is_found_again_and_damage_is_computed(fleet, conversations, told, directory):
    """After kill -9 the disk tier serves what it held; blocks whose bytes have changed are computed, not served."""
    await until(lambda: _own(fleet, "tritium_kv_tier_blocks", tier="disk") > 2 * DEVICE_BLOCKS)
    worker = fleet.workers.by_name["worker_0"]
    killed = worker.pid
    os.kill(killed, signal.SIGKILL)
    await until(lambda: worker.pid != killed and worker.ready, START_S)
    answers, cached, _ = await _ask_all(fleet, conversations[:3])
    assert answers == told[:3]
    assert all(cached)
    await until(lambda: _hits(fleet, "disk") > 0)
    (blocks,) = directory.rglob("blocks.dat")
    with blocks.open("r+b") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        for start in range(0, size_bytes, 4096):
            file.seek(start)
            file.write(b"\xa5" * 16)
    answers, _, _ = await _ask_all(fleet, conversations[3:])
    assert answers == told[3:]
    await until(lambda: _own(fleet, "tritium_kv_tier_damaged_total", tier="disk") > 0)
