"""Fleets of real vLLM workers on the sample model: one machine, CPU where there is no GPU.

All questions are put to two fleets, for a vLLM worker takes the better part of a minute to start: two aggregated
workers, and two prefill workers with a decode worker whose KV moves by NIXL.
"""

import asyncio
import importlib.util
import os
import signal
import uuid
from pathlib import Path

import pytest
import pytest_asyncio
from qa.e2e.fleets import Sink, ask, generate, sample_fleet, sample_prompts, samples, token_kv_bytes, until

from tritium.core.errors import InvalidArgument, WorkerLost

START_S = 300

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make test installs it"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(2 * START_S),
]


@pytest.fixture(scope="module")
def prompts():
    return sample_prompts()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aggregated():
    fleet = await sample_fleet("workers=2", "vllm")
    yield fleet
    await fleet.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def single(aggregated, prompts):
    """What one worker says to every prompt, computed whole."""
    answers = {}
    for length, tokens in prompts.items():
        _, sink = await ask(aggregated, tokens, worker="worker_0")
        assert sink.error is None
        answers[length] = sink.tokens
    return answers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def disaggregated():
    fleet = await sample_fleet("prefill=2,decode=1,detour=0", "vllm")
    yield fleet
    await fleet.close()


async def test_generates(aggregated, single, prompts):
    """A worker streams its tokens one step at a time and ends by length, with usage told once."""
    _, sink = await ask(aggregated, prompts[97], worker="worker_0")
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
        first, sink = await ask(aggregated, [*prefix, 11], cache_salt=salt)
        await until(lambda: len(aggregated.workers.generating.index) > 0)
        for last in (12, 13):
            await until(lambda s=salt, w=last: _overlap(aggregated, [*prefix, w, 9], s) == 10)
            route, sink = await ask(aggregated, [*prefix, last, 9], cache_salt=salt)
            assert route.worker == first.worker
            assert route.because == "overlap 10/11 blocks, 0 active"
            assert sink.cached_tokens == 320


def _overlap(fleet, tokens, salt):
    router = fleet.workers.generating
    return router.choose(router.prompt(tokens, salt=salt)).overlap_blocks


async def test_logprobs(aggregated, prompts):
    """Every token comes with its own log probability first and the likeliest beside it."""
    _, sink = await ask(aggregated, prompts[97], 4, sampling={"logprobs": 2})
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
    _, good = generate(aggregated, prompts[20])
    _, bad = await ask(aggregated, prompts[20], 4, sampling=sampling)
    assert isinstance(bad.error, InvalidArgument)
    assert words in bad.error.message
    await asyncio.wait_for(good.over.wait(), 60)
    assert len(good.tokens) == 24


async def test_cancel_frees_the_engine(aggregated, prompts):
    """A cancelled generation leaves the engine: its blocks are free and nothing runs."""
    handle, sink = generate(aggregated, prompts[97], 800)
    await asyncio.wait_for(sink.moved.wait(), 60)
    worker = handle.route.worker
    handle.cancel()
    heard = len(sink.tokens)
    await ask(aggregated, prompts[20], 2, worker=worker)
    for gauge in ("tritium_engine_running", "tritium_engine_kv_used_blocks"):
        await until(lambda name=gauge: samples(aggregated, name).get(worker) == 0)
    assert len(sink.tokens) == heard < 800


async def test_disaggregated_equals_single(disaggregated, single, prompts):
    """Prefilled on one worker and decoded on another, every token is the single worker's; NIXL's bytes are counted."""
    counted = [f"tritium_kv_{name}_total" for name in ("received_bytes", "pulls", "pull_failures")]
    before = {name: samples(disaggregated, name).get("decode_0", 0) for name in counted}

    def more(name):
        return samples(disaggregated, name)["decode_0"] - before[name]

    salt = f"moved {uuid.uuid4()}"  # nobody holds it, whatever was asked before
    moved_tokens = 0
    prefilled_by = set()
    for length, tokens in prompts.items():
        route, sink = await ask(disaggregated, tokens, cache_salt=salt)
        assert sink.error is None
        assert single[length] == sink.tokens, f"prompt of {length} tokens"
        assert route.worker == "decode_0"
        if length >= 32:
            assert route.prefill_worker in {"prefill_0", "prefill_1"}, route.because
            prefilled_by.add(route.prefill_worker)
            assert f"{length} uncached tokens" in route.because
            moved_tokens += length
        else:
            assert route.prefill_worker == ""
        assert sink.cached_tokens == 0
    await until(lambda: more("tritium_kv_received_bytes_total") >= moved_tokens * token_kv_bytes())
    await until(lambda: more("tritium_kv_pulls_total") == 5)
    assert more("tritium_kv_pull_failures_total") == 0
    assert samples(disaggregated, "tritium_fleet_prefill_fallbacks_total")[""] == 0
    assert prefilled_by == {"prefill_0", "prefill_1"}
    # By which path was tried before the first request.
    assert samples(disaggregated, "tritium_transfer_checked_bytes_per_second")["prefill_0"] > 0


async def test_prompt_held_by_the_decoder_stays_there(disaggregated, prompts):
    """What the decode worker holds since is not prefilled elsewhere again, as its KV events tell."""
    first, _ = await ask(disaggregated, prompts[500], cache_salt="held")
    await until(lambda: _overlap(disaggregated, prompts[500], "held") == 15)
    route, sink = await ask(disaggregated, prompts[500], cache_salt="held")
    assert (route.worker, route.prefill_worker) == (first.worker, "")
    assert "local prefill: 20 uncached tokens are less than a block" in route.because
    assert sink.cached_tokens == 480


async def test_idle_workers_sleep(disaggregated):
    """Idle workers come to rest, NIXL's progress threads included: a second costs both less than a third of a core."""

    def spent() -> float:
        ticks = 0
        for worker in disaggregated.workers.by_name.values():
            for process in _group(worker.pid):
                fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    seconds = []
    while not seconds or seconds[-1] > 0.3:  # vLLM itself goes on looking for work for a while after the last
        assert len(seconds) < 60, seconds
        before = spent()
        await asyncio.sleep(1)  # the time that is measured
        seconds.append(spent() - before)


async def test_roles_change_under_load(disaggregated, single, prompts):
    """A prefill worker decodes at once, and prefills again later, in place: all answers are right."""
    pids = {worker.name: worker.pid for worker in disaggregated.workers.by_name.values()}
    decoded_by, stopped = [], asyncio.Event()

    async def stream(length):
        salts = 0
        while not stopped.is_set():
            salts += 1
            # A salt of its own: nobody holds the prompt, so that its KV has to move.
            route, sink = await ask(disaggregated, prompts[length], cache_salt=f"{length} {salts}")
            assert sink.error is None
            assert single[length] == sink.tokens
            assert sink.cached_tokens == 0
            decoded_by.append(route.worker)

    streams = [asyncio.create_task(stream(length)) for length in (97, 160, 301)]
    await until(lambda: len(decoded_by) >= 3, 120)
    report = await disaggregated.change("prefill=1,decode=2", {})
    (change,) = report.changes
    assert (change.before, change.after, change.restarted) == ("prefill", "decode", False)
    await until(lambda: decoded_by.count(change.worker) >= 3, 120)
    await disaggregated.change("prefill=2,decode=1", {})
    heard = len(decoded_by)
    await until(lambda: len(decoded_by) >= heard + 6, 120)
    stopped.set()
    await asyncio.gather(*streams)
    assert pids == {worker.name: worker.pid for worker in disaggregated.workers.by_name.values()}
    assert samples(disaggregated, "tritium_fleet_prefill_fallbacks_total")[""] == 0


async def test_killed_prefill_worker(disaggregated, single, prompts):
    """kill -9 of a worker while it prefills: the decode worker computes the prompt, and usage says so."""
    await _all_ready(disaggregated)
    salt = f"killed {uuid.uuid4()}"
    handle, sink = generate(disaggregated, prompts[500], cache_salt=salt)
    killed = handle.route.prefill_worker
    os.kill(disaggregated.workers.by_name[killed].pid, signal.SIGKILL)
    await asyncio.wait_for(sink.over.wait(), 120)
    assert sink.error is None
    assert single[500] == sink.tokens
    assert sink.cached_tokens == 0
    assert "so prefilled here" in handle.route.because
    route, sink = await ask(disaggregated, prompts[301], cache_salt=salt)
    assert route.prefill_worker not in {"", killed}
    assert single[301] == sink.tokens


async def test_killed_engine_process(disaggregated, prompts):
    """kill -9 of vLLM's own process: its worker ends and is started again; the stream goes on there, or is told."""
    await _all_ready(disaggregated)

    def kill() -> None:
        (engine,) = (process for process in _group(group) if _command(process).startswith("VLLM::EngineCor"))
        os.kill(engine, signal.SIGKILL)

    sink = Sink(at=5, then=kill)
    handle, _ = generate(disaggregated, prompts[20], 900, sink=sink)
    group = disaggregated.workers.by_name[handle.route.worker].pid
    await asyncio.wait_for(sink.moved.wait(), 60)
    await until(lambda: not _group(group))
    await asyncio.wait_for(sink.over.wait(), 120)
    # The fleet holds a stream for some seconds; whether its only decode worker is back by then is up to the machine.
    assert isinstance(sink.error, WorkerLost) or (sink.error is None and len(sink.tokens) == 900)


async def test_killed_worker(aggregated, single, prompts):
    """kill -9 of a worker in mid-stream: the other goes on to the same end, and nothing of the dead one is left."""
    await _all_ready(aggregated)
    before = {
        worker.name: (worker.pid, worker.scratch, _shared_memory(_group(worker.pid)))
        for worker in aggregated.workers.by_name.values()
    }
    for group, scratch, shared in before.values():
        assert len(_group(group)) > 1
        assert _names(scratch)
        assert shared
    # Killed from within its fifth token: whatever is slow, 695 are still to come then.
    sink = Sink(at=5, then=lambda: os.kill(before[handle.route.worker][0], signal.SIGKILL))
    handle, _ = generate(aggregated, prompts[301], 700, sink=sink)
    await asyncio.wait_for(sink.moved.wait(), 60)
    lost = handle.route.worker
    group, scratch, shared = before[lost]
    await asyncio.wait_for(sink.over.wait(), 120)
    assert sink.error is None
    assert single[301] == sink.tokens[:24]
    assert len(sink.tokens) == 700
    assert f"moved from {lost} after" in handle.route.because
    assert sum(delta.cached_tokens is not None for delta in sink.deltas) == 1
    await until(lambda: not _group(group) and not _names(scratch))
    await until(lambda: not shared & _names("/dev/shm"))


async def test_killed_worker_under_a_schema(aggregated, prompts):
    """kill -9 in the middle of an answer held to a schema: the other worker holds it to what is left of it."""
    names = {"type": "array", "items": {"enum": ["ann", "bob", "cid"]}, "minItems": 40, "maxItems": 40}
    sampling = {"structured_outputs": {"json": names}, "ignore_eos": False}
    await _all_ready(aggregated)
    _, undisturbed = await ask(aggregated, prompts[20], 700, sampling)
    assert undisturbed.error is None
    pids = {worker.name: worker.pid for worker in aggregated.workers.by_name.values()}
    sink = Sink(at=30, then=lambda: os.kill(pids[handle.route.worker], signal.SIGKILL))
    handle, _ = generate(aggregated, prompts[20], 700, sampling, sink)
    await asyncio.wait_for(sink.over.wait(), 120)
    assert sink.error is None
    assert "moved from" in handle.route.because
    assert undisturbed.tokens == sink.tokens
    assert undisturbed.deltas[-1].finish == sink.deltas[-1].finish


async def _all_ready(fleet):
    """Wait until every worker is there: tests before may have killed one."""
    await until(lambda: all(worker.ready for worker in fleet.workers.by_name.values()), START_S)


def _command(process: int) -> str:
    """Return what a process calls itself; nothing where it has just ended."""
    try:
        return Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return ""


def _names(folder: str) -> set[str]:
    """Return what lies in a folder; nothing where there is no folder."""
    return {entry.name for entry in Path(folder).glob("*")}


def _shared_memory(processes: list[int]) -> set[str]:
    """Return the names of the shared memory that processes have mapped."""
    names = set()
    for process in processes:
        try:
            maps = Path(f"/proc/{process}/maps").read_text()
        except OSError:  # it has just ended
            continue
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
