"""Disaggregation with two engines: what a decode worker makes of KV that a prefill worker holds."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.embedded.cache import BlockKey, extend_keys
from tritium.backends.engine import BlocksStored, Role
from tritium.kv.nixl_package import find_nixl

Run = Callable[..., Any]
Prompt = Callable[..., list[int]]

TRANSPORTS = [
    "shm",
    pytest.param(
        "nixl",
        marks=pytest.mark.skipif(
            not find_nixl(),
            reason="NIXL is not installed",
        ),
    ),
]


@pytest.fixture(params=TRANSPORTS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each transport in turn."""
    return str(request.param)


async def prefill(driver: Any, tokens: list[int]) -> dict[str, Any]:
    """Prefill as a fleet does, and return the description of the KV."""
    result = await driver.generate(tokens, max_tokens=1, temperature=0.0, ignore_eos=True)
    assert result.last.transfer is not None
    return dict(result.last.transfer)


async def pair(stack: AsyncExitStack, run_engine: Run, kind: str, **arguments: Any) -> tuple[Any, Any]:
    """Start a prefill and a decode worker."""
    arguments = {"kv_transport": kind, "block_size": 8} | arguments
    prefiller = await stack.enter_async_context(run_engine(role=Role.PREFILL, worker="p", **arguments))
    decoder = await stack.enter_async_context(run_engine(role=Role.DECODE, worker="d", **arguments))
    assert prefiller.info.transfer == decoder.info.transfer == kind
    return prefiller, decoder


async def test_disaggregated_equals_single(kind: str, run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """Token by token, for prompts of every alignment; all but the last prompt token comes from the other worker."""
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, kind)
        single = await stack.enter_async_context(run_engine())
        for length in (1, 7, 8, 9, 24, 61):
            tokens = prompt(length, seed=length)
            expected = await single.generate(tokens, max_tokens=30, **greedy)
            pulled = await decoder.generate(tokens, transfer=await prefill(prefiller, tokens), max_tokens=30, **greedy)
            assert pulled.tokens == expected.tokens
            assert pulled.cached_tokens == length - 1
        counts = decoder.engine.metrics()
        # Blocks of the one-token prompt are not worth moving; layers * (keys, values) * tokens * heads * width * 4
        assert counts["tritium_kv_received_blocks_total"] == 1 + 1 + 2 + 3 + 8
        assert counts["tritium_kv_received_bytes_total"] == 15 * 2 * 2 * 8 * 2 * 16 * 4
        assert counts["tritium_kv_pull_failures_total"] == 0
        # The decoder holds those prefixes now, and says so.
        stored = [event for event in decoder.events if isinstance(event, BlocksStored)]
        assert prompt(24, seed=24)[:16] in [event.token_ids[:16] for event in stored]


async def test_the_pulled_numbers_are_used(kind: str, run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """With the prefill worker's blocks overwritten before the pull, the output changes: it is not computed anew."""
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, kind)
        tokens = prompt(40)
        described = await prefill(prefiller, tokens)
        expected = await prefiller.generate(tokens, max_tokens=12, **greedy)
        prefiller.engine._model.cache[:, :, described["blocks"]] *= -1
        pulled = await decoder.generate(tokens, transfer=described, max_tokens=12, **greedy)
        assert pulled.tokens != expected.tokens


async def test_only_what_is_missing_is_pulled(
    kind: str, run_engine: Run, prompt: Prompt, greedy: dict[str, Any]
) -> None:
    """Blocks that the decode worker has already are not moved again."""
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, kind)
        shared = prompt(32)
        for tail, moved in (([5] * 4, 5), ([6] * 4, 6)):
            tokens = shared + tail
            await decoder.generate(tokens, transfer=await prefill(prefiller, tokens), max_tokens=2, **greedy)
            assert decoder.engine.metrics()["tritium_kv_received_blocks_total"] == moved


async def test_a_lease_ends_with_the_read(kind: str, run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """The prefill worker gives the blocks back as soon as they have been read, or were not needed."""
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, kind)
        for _ in range(2):
            tokens = prompt(30)
            described = await prefill(prefiller, tokens)
            assert prefiller.engine.metrics()["tritium_kv_exports_held"] == 1
            await decoder.generate(tokens, transfer=described, max_tokens=2, **greedy)
            await eventually(lambda: not prefiller.engine.metrics()["tritium_kv_exports_held"])
            assert prefiller.engine.metrics()["tritium_engine_kv_used_blocks"] == 0


async def test_a_lease_that_nobody_reads_expires(
    run_engine: Run, prompt: Prompt, greedy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks come back without a reader too; a late reader computes the prompt itself."""
    monkeypatch.setattr("tritium.backends.embedded.transfer.GRACE_S", 0.0)
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, "shm")
        prefiller.engine._transfer.lease_s = 0.05
        tokens = prompt(30)
        described = await prefill(prefiller, tokens)
        await eventually(lambda: not prefiller.engine.metrics()["tritium_kv_exports_held"])
        assert prefiller.engine.metrics()["tritium_kv_exports_expired_total"] == 1
        await computes_itself(decoder, prefiller, tokens, described)


@pytest.mark.parametrize(
    "change",
    [
        {"address": "shm:nobody-is-here"},
        {"address": "AAAA"},
        {"transport": "pigeon"},
        {"layout": "another model"},
        {"digest": 1},
        {"blocks": [10**6] * 4},
        {"tokens": 10**6},
        {"pool_blocks": 10**30},
        {"blocks": [-1] * 4},
        {"tokens": "all"},
        {"surprise": True},
        {"expires": 0.0},
    ],
    ids=str,
)
async def test_what_cannot_be_pulled_is_computed(
    change: dict[str, Any], kind: str, run_engine: Run, prompt: Prompt
) -> None:
    """A gone worker, another model, another prompt, a forged or broken description: the answer is the same, later."""
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, kind)
        tokens = prompt(30)
        described = await prefill(prefiller, tokens) | change
        await computes_itself(decoder, prefiller, tokens, described)


async def test_an_abort_during_a_pull_leaves_nothing(
    run_engine: Run, prompt: Prompt, greedy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of an aborted pull are kept until nobody writes to them any more, then free."""
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, "shm")
        tokens = prompt(30)
        described = await prefill(prefiller, tokens)
        # A peer that accepts and says nothing: the read stays under way.
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind("\0tritium-test-mute")
            mute.listen()
            number = decoder.submit(tokens, transfer=described | {"address": "shm:tritium-test-mute"}, max_tokens=9)
            await eventually(lambda: decoder.engine._transfer.pulling)
            decoder.engine.abort(number)
            await decoder.generate(prompt(9, seed=4), max_tokens=3, **greedy)
            assert decoder.engine.metrics()["tritium_engine_kv_used_blocks"] == 4
        await eventually(lambda: not decoder.engine.metrics()["tritium_engine_kv_used_blocks"])
        assert decoder.results[number].deltas == []


async def test_a_silent_peer_is_given_up(run_engine: Run, prompt: Prompt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that does not end in time is left alone, and the prompt is computed in other blocks."""
    monkeypatch.setattr("tritium.backends.embedded.transfer.READ_LIMIT_S", 0.05)
    async with AsyncExitStack() as stack:
        prefiller, decoder = await pair(stack, run_engine, "shm")
        tokens = prompt(30)
        described = await prefill(prefiller, tokens)
        with socket.socket(socket.AF_UNIX) as mute:
            mute.bind("\0tritium-test-silent")
            mute.listen()
            await computes_itself(decoder, prefiller, tokens, described | {"address": "shm:tritium-test-silent"})
            keys: list[BlockKey] = []
            extend_keys(keys, tokens, 8, "")
            computed = decoder.engine._scheduler.pool.match(keys)
            assert len(computed) == 3
            assert set(computed).isdisjoint(decoder.engine._transfer._pulls[0].blocks)


async def test_a_killed_worker_leaves_nothing(
    kind: str, run_engine: Run, prompt: Prompt, tiny_model: Path, greedy: dict[str, Any]
) -> None:
    """After kill -9 of a prefill worker no file or socket remains, and its prompts are computed by the decoder."""
    tokens = prompt(30)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PREFILL_PROCESS, str(tiny_model), kind, str(tokens), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    described = eval(await asyncio.wait_for(process.stdout.readline(), 60))
    files = {word for word in text_of(f"/proc/{process.pid}/maps").split() if word.startswith("/dev/shm/")}
    async with run_engine(role=Role.DECODE, kv_transport=kind, block_size=8) as decoder:
        first = await decoder.generate(tokens, transfer=described, max_tokens=5, **greedy)
        assert decoder.engine.metrics()["tritium_kv_pulls_total"] == 1
        process.send_signal(signal.SIGKILL)
        await process.wait()
        # Shared memory that is mapped outlives its owner; a worker that is met only now does not.
        unmet = described | ({"address": described["address"] + "-unmet"} if kind == "shm" else {})
        again = await decoder.generate(
            tokens, transfer=unmet, max_tokens=5, request_cache_salt="not what it has", **greedy
        )
        assert again.tokens == first.tokens
        assert decoder.engine.metrics()["tritium_kv_pull_failures_total"] == 1
    assert [file for file in files if exists(file)] == []
    assert described["address"].removeprefix("shm:") not in text_of("/proc/net/unix")


def exists(path: str) -> bool:
    return Path(path).exists()


def text_of(path: str) -> str:
    return Path(path).read_text()


PREFILL_PROCESS = """
import asyncio, sys
from pathlib import Path
from tritium.backends.embedded.engine import EmbeddedEngine
from tritium.backends.engine import EngineSinks, EngineSource, Generate, Role

async def main():
    done = asyncio.get_running_loop().create_future()
    arguments = {"kv_transport": sys.argv[2], "block_size": 8}
    engine = EmbeddedEngine(EngineSource(Path(sys.argv[1]), arguments, Role.PREFILL, "p"))
    await engine.start(EngineSinks(lambda step: done.set_result(step.deltas[0].transfer), lambda _: None))
    engine.submit(Generate(1, eval(sys.argv[3]), {"max_tokens": 1, "temperature": 0.0, "ignore_eos": True}, keep=True))
    print(await done, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def computes_itself(decoder: Any, reference: Any, tokens: list[int], described: dict[str, Any]) -> None:
    """Check that the decoder answers as the reference does without the KV described, and counts the failure."""
    got = await decoder.generate(tokens, transfer=described, max_tokens=12, temperature=0.0, ignore_eos=True)
    expected = await reference.generate(tokens, max_tokens=12, temperature=0.0, ignore_eos=True)
    assert got.tokens == expected.tokens
    assert got.cached_tokens == 0
    counts = decoder.engine.metrics()
    assert (counts["tritium_kv_pulls_total"], counts["tritium_kv_pull_failures_total"]) == (0, 1)


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait, bounded, for what another thread brings about."""

    async def wait() -> None:
        while not condition():  # noqa: ASYNC110  see below
            await asyncio.sleep(0.002)  # counters of an engine's thread, which has no event to give

    await asyncio.wait_for(wait(), 60)
