"""Fleets of real vLLM workers on the sample model: one machine, CPU where there is no GPU.

All questions are put to two fleets, for a vLLM worker takes the better part of a minute to start: two aggregated
workers, and a prefill with a decode worker whose KV moves by NIXL.
"""

import asyncio
import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest
import pytest_asyncio
from tokenizers import Tokenizer

from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import start_fleet
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InvalidArgument

MODEL = Path(__file__).parents[2] / "model_repository" / "tiny_chat" / "1"
START_S = 300

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(2 * START_S),
]

TEXT = """What is a model repository? A model repository is a folder of models. Each model has a folder of its own,
with a configuration and numbered versions. What is a batch? A batch is several requests that are run together. """


class Sink:
    def __init__(self) -> None:
        self.tokens = []
        self.deltas = []
        self.error = None
        self.over = asyncio.Event()
        self.moved = asyncio.Event()

    def on_delta(self, delta) -> None:
        self.tokens += delta.token_ids
        self.deltas.append(delta)
        self.moved.set()
        if delta.finish:
            self.over.set()

    def on_failure(self, error) -> None:
        self.error = error
        self.moved.set()
        self.over.set()

    @property
    def cached_tokens(self):
        return next(delta.cached_tokens for delta in self.deltas if delta.cached_tokens is not None)


def _generate(fleet, tokens, max_tokens=24, sampling=None, **rest):
    sink = Sink()
    asked = {"max_tokens": max_tokens, "temperature": 0.0, "ignore_eos": True, **(sampling or {})}
    return fleet.generate(GenerationRequest(list(tokens), asked, **rest), sink), sink


async def _ask(fleet, tokens, *arguments, **rest):
    handle, sink = _generate(fleet, tokens, *arguments, **rest)
    await asyncio.wait_for(sink.over.wait(), 120)
    return handle.route, sink


async def _until(condition, within_s=30.0):
    """Wait for what a worker tells in its own time: a KV event, a counter."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  counters and index are read, they call nobody
            await asyncio.sleep(0.02)


def _samples(fleet, name):
    return {labels.get("worker", ""): value for sample, labels, value in fleet.metrics() if sample == name}


async def _fleet(spec):
    arguments = json.loads((MODEL / "model.json").read_text())
    folder = MODEL / arguments.pop("model")
    return await start_fleet(parse_fleet(spec), name="tiny_chat", engine="vllm", folder=folder, arguments=arguments)


@pytest.fixture(scope="module")
def prompts():
    """Prompts of several lengths: within a block, over block borders, and hundreds of tokens long."""
    words = Tokenizer.from_file(str(MODEL / "tiny_chat" / "tokenizer.json"))
    tokens = words.encode(TEXT * 12).ids
    return {length: tokens[offset : offset + length] for offset, length in enumerate((20, 32, 97, 160, 301, 500))}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aggregated():
    fleet = await _fleet("workers=2")
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def single(aggregated, prompts):
    """What one worker says to every prompt, computed whole."""
    answers = {}
    for length, tokens in prompts.items():
        _, sink = await _ask(aggregated, tokens, worker="worker_0")
        assert sink.error is None
        answers[length] = sink.tokens
    return answers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def disaggregated():
    fleet = await _fleet("prefill=1,decode=1")
    yield fleet
    await fleet.close()


async def test_generates(aggregated, single, prompts):
    """A worker streams its tokens one step at a time and ends by length, with usage told once."""
    _, sink = await _ask(aggregated, prompts[97], worker="worker_0")
    assert single[97] == sink.tokens
    assert len(sink.tokens) == 24
    assert len(sink.deltas) > 12
    assert sink.deltas[-1].finish == "length"
    assert sink.cached_tokens == 96
    assert aggregated.info.engine == "vllm"


async def test_shared_prefix_goes_to_its_holder(aggregated, prompts):
    """A prompt that shares a prefix goes to the worker that holds it, and the route says why."""
    prefix = prompts[500][:320]
    for salt in ("one", "two"):  # whichever worker happens to come first, the second salt finds the other
        first, sink = await _ask(aggregated, [*prefix, 11], cache_salt=salt)
        await _until(lambda: len(aggregated.pool.generating.index) > 0)
        for last in (12, 13):
            await _until(lambda s=salt, w=last: _overlap(aggregated, [*prefix, w, 9], s) == 10)
            route, sink = await _ask(aggregated, [*prefix, last, 9], cache_salt=salt)
            assert route.worker == first.worker
            assert route.because == "overlap 10/11 blocks, 0 active"
            assert sink.cached_tokens == 320


def _overlap(fleet, tokens, salt):
    router = fleet.pool.generating
    return router.choose(router.prompt(tokens, salt=salt)).overlap_blocks


async def test_logprobs(aggregated, prompts):
    """Every token comes with its own log probability first and the likeliest beside it."""
    _, sink = await _ask(aggregated, prompts[97], 4, sampling={"logprobs": 2})
    reported = [place for delta in sink.deltas for place in delta.logprobs]
    assert sink.tokens == [place[0].token_id for place in reported]
    assert all(place[0].rank == 1 and place[0].logprob <= 0 for place in reported)
    assert all(len(place) == 3 for place in reported)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [({"temprature": 1}, "did you mean temperature"), ({"temperature": -1.0}, "temperature"), ({"top_p": 7}, "top_p")],
)
async def test_refuses(aggregated, prompts, sampling, words):
    """What vLLM would not take is the request's fault, and harms nobody else."""
    _, good = _generate(aggregated, prompts[20])
    _, bad = await _ask(aggregated, prompts[20], 4, sampling=sampling)
    assert isinstance(bad.error, InvalidArgument)
    assert words in bad.error.message
    await asyncio.wait_for(good.over.wait(), 60)
    assert len(good.tokens) == 24


async def test_cancel_frees_the_engine(aggregated, prompts):
    """A cancelled generation leaves the engine: its blocks are free and nothing runs."""
    handle, sink = _generate(aggregated, prompts[97], 800)
    await asyncio.wait_for(sink.moved.wait(), 60)
    worker = handle.route.worker
    handle.cancel()
    heard = len(sink.tokens)
    await _ask(aggregated, prompts[20], 2, worker=worker)
    await _until(lambda: _samples(aggregated, "tritium_engine_running").get(worker) == 0)
    assert _samples(aggregated, "tritium_engine_kv_used_blocks")[worker] == 0
    assert len(sink.tokens) == heard < 800


async def test_disaggregated_equals_single(disaggregated, single, prompts):
    """Prefilled on one worker and decoded on another, every token is the single worker's; NIXL's bytes are counted."""
    before = _samples(disaggregated, "tritium_kv_received_bytes_total").get("decode_0", 0)
    moved_tokens = 0
    for length, tokens in prompts.items():
        route, sink = await _ask(disaggregated, tokens)
        assert sink.error is None
        assert single[length] == sink.tokens, f"prompt of {length} tokens"
        assert route.worker == "decode_0"
        if length >= 32:
            assert route.prefill_worker == "prefill_0", route.because
            assert f"{length} uncached tokens" in route.because
            moved_tokens += length
        else:
            assert route.prefill_worker == ""
        assert sink.cached_tokens == 0
    config = json.loads((MODEL / "tiny_chat" / "config.json").read_text())
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    token_bytes = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * 4  # float32
    await _until(
        lambda: (
            _samples(disaggregated, "tritium_kv_received_bytes_total")["decode_0"] - before
            >= moved_tokens * token_bytes
        )
    )
    assert _samples(disaggregated, "tritium_kv_pulls_total")["decode_0"] == 5
    assert _samples(disaggregated, "tritium_kv_pull_failures_total")["decode_0"] == 0
    assert _samples(disaggregated, "tritium_fleet_prefill_fallbacks_total")[""] == 0


async def test_prompt_held_by_the_decoder_stays_there(disaggregated, prompts):
    """What the decode worker holds since is not prefilled elsewhere again, as its KV events tell."""
    await _until(lambda: disaggregated.explain(prompts[500]).overlap_blocks == 15)
    route, sink = await _ask(disaggregated, prompts[500])
    assert route.prefill_worker == ""
    assert "local prefill: 20 uncached tokens are less than a block" in route.because
    assert sink.cached_tokens == 480


async def test_idle_workers_sleep(disaggregated):
    """Idle workers come to rest, NIXL's progress threads included: a second costs both less than a third of a core."""

    def spent() -> float:
        ticks = 0
        for worker in disaggregated.pool.workers.values():
            for process in _group(worker.pid):
                fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    seconds = []
    while not seconds or seconds[-1] > 0.3:  # vLLM itself goes on looking for work for a while after the last
        assert len(seconds) < 20, seconds
        before = spent()
        await asyncio.sleep(1)  # the time that is measured
        seconds.append(spent() - before)


async def test_killed_worker(aggregated, single, prompts):
    """kill -9 of a worker in mid-stream: the other goes on to the same end, and nothing of the dead one is left."""
    handle, sink = _generate(aggregated, prompts[301], 200)
    await asyncio.wait_for(sink.moved.wait(), 60)
    lost = aggregated.pool.workers[handle.route.worker]
    group, scratch, shared = lost.pid, lost.scratch, _shared_memory(_group(lost.pid))
    assert len(_group(group)) > 1
    assert _names(scratch)
    assert shared
    os.kill(group, signal.SIGKILL)
    await asyncio.wait_for(sink.over.wait(), 120)
    assert sink.error is None
    assert single[301] == sink.tokens[:24]
    assert len(sink.tokens) == 200
    assert f"moved from {lost.name} after" in handle.route.because
    assert sum(delta.cached_tokens is not None for delta in sink.deltas) == 1
    await _until(lambda: not _group(group) and not _names(scratch))
    assert not shared & _names("/dev/shm")


def _names(folder: str) -> set[str]:
    """Return what lies in a folder; nothing where there is no folder."""
    return {entry.name for entry in Path(folder).glob("*")}


def _shared_memory(processes: list[int]) -> set[str]:
    """Return the names of the shared memory that processes have mapped."""
    names = set()
    for process in processes:
        maps = Path(f"/proc/{process}/maps").read_text()
        names |= {line.rsplit("/dev/shm/", 1)[1] for line in maps.splitlines() if "/dev/shm/" in line}
    return {name for name in names if not name.endswith("(deleted)")}


def _group(group: int) -> list[int]:
    """Return the processes of a process group."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(entry.parent.name))
    return found
