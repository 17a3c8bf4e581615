"""The embedded engine as its worker sees it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.embedded.engine import EmbeddedEngine
from tritium.backends.engine import BlocksStored, EngineSinks, EngineSource, FinishReason
from tritium.core.errors import InferenceError

Run = Callable[..., Any]
Prompt = Callable[..., list[int]]


async def test_together_is_as_alone(run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """A sequence's tokens do not depend on what runs beside it, on chunks, on preemption or on the prefix cache."""
    prompts = [prompt(length, seed=length) for length in (1, 3, 8, 17, 30, 41)]
    async with run_engine(enable_prefix_caching=False) as driver:
        alone = [(await driver.generate(each, max_tokens=40, **greedy)).tokens for each in prompts]
    for settings in (
        {},
        {"block_size": 8, "num_gpu_blocks_override": 16, "max_num_batched_tokens": 7, "max_num_seqs": 5},
    ):
        async with run_engine(**settings) as driver:
            numbers = [driver.submit(each, max_tokens=40, **greedy) for each in prompts + prompts]
            together = [(await driver.result(number)).tokens for number in numbers]
            assert together == alone + alone
            preempted = driver.engine.metrics()["tritium_engine_preemptions_total"]
            assert (preempted > 0) == bool(settings)
            assert driver.engine.metrics()["tritium_engine_kv_used_blocks"] == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"temperature": 1.0, "seed": 11},
        {"temperature": 0.8, "seed": 11, "top_p": 0.9, "frequency_penalty": 1.0},
        {"temperature": 0.0, "presence_penalty": 1.5, "frequency_penalty": 0.7},
        {"temperature": 0.0, "repetition_penalty": 1.4},
    ],
    ids=["greedy", "seed", "seed and penalty", "penalties", "repetition"],
)
async def test_a_moved_sequence_goes_on(run_engine: Run, prompt: Prompt, fields: dict[str, Any]) -> None:
    """From any token of an answer on, another engine says the rest, with the random numbers and penalties it has."""
    tokens = prompt(12)
    async with run_engine() as one, run_engine() as other:
        whole = (await one.generate(tokens, max_tokens=14, ignore_eos=True, **fields)).tokens
        for done in (1, 5, 13):
            rest = await other.generate(
                tokens + whole[:done], max_tokens=14 - done, ignore_eos=True, request_resumed_tokens=done, **fields
            )
            assert rest.tokens == whole[done:]


async def test_a_prefix_is_reused_and_told(run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """The second request finds the first one's full blocks; stored events name them with their tokens."""
    tokens = prompt(20)
    async with run_engine(block_size=8) as driver:
        first = await driver.generate(tokens, max_tokens=2, **greedy)
        second = await driver.generate(tokens, max_tokens=2, **greedy)
        other = await driver.generate(tokens, max_tokens=2, request_cache_salt="tenant b", **greedy)
        assert (first.cached_tokens, second.cached_tokens, other.cached_tokens) == (0, 16, 0)
        assert first.tokens == second.tokens == other.tokens
        stored = [event for event in driver.events if isinstance(event, BlocksStored)]
        assert [event.token_ids for event in stored] == [tokens[:16], tokens[:16]]
        assert [event.salt for event in stored] == ["", "tenant b"]


async def test_a_prompt_of_full_blocks_computes_its_last(
    run_engine: Run, prompt: Prompt, greedy: dict[str, Any]
) -> None:
    """When all blocks of a prompt are cached, the last is computed all the same: its logits are the answer."""
    async with run_engine(block_size=8) as driver:
        first = await driver.generate(prompt(16), max_tokens=3, **greedy)
        second = await driver.generate(prompt(16), max_tokens=3, **greedy)
        assert second.cached_tokens == 8
        assert second.tokens == first.tokens


async def test_finish_reasons(run_engine: Run, prompt: Prompt, model_writer: Run, tmp_path: Path) -> None:
    """End token, stop token, max_tokens and the end of the context each end a sequence, and say so."""
    tokens = prompt(10)
    async with run_engine() as driver:
        free = await driver.generate(tokens, max_tokens=6, temperature=0.0, ignore_eos=True)
        assert (len(free.tokens), free.last.finish) == (6, FinishReason.LENGTH)
        until = free.tokens.index(free.tokens[3]) + 1
        stopped = await driver.generate(tokens, max_tokens=6, temperature=0.0, stop_token_ids=[free.tokens[3]])
        assert stopped.tokens == free.tokens[:until]
        assert (stopped.last.finish, stopped.last.stop_token) == (FinishReason.STOP, free.tokens[3])
        full = await driver.generate(prompt(126), max_tokens=None, temperature=0.0, ignore_eos=True)
        assert (len(full.tokens), full.last.finish) == (2, FinishReason.LENGTH)
    folder = model_writer(tmp_path, eos_token_id=free.tokens[3])
    async with run_engine(folder=folder) as driver:
        ended = await driver.generate(tokens, max_tokens=6, temperature=0.0)
        assert ended.tokens == free.tokens[:until]
        assert (ended.last.finish, ended.last.stop_token) == (FinishReason.STOP, None)
        beyond = await driver.generate(tokens, max_tokens=6, temperature=0.0, ignore_eos=True)
        assert beyond.tokens == free.tokens


@pytest.mark.parametrize(
    ("tokens", "options", "words"),
    [
        ([], {}, "the prompt has no tokens"),
        ([5] * 128, {}, "the prompt has 128 tokens and the context of this model is 128"),
        ([5, 120], {}, "token ids outside the vocabulary of 120"),
        ([5, -1], {}, "token ids outside the vocabulary of 120"),
        ([5], {"tempo": 1}, "unknown sampling field 'tempo'"),
        ([5], {"logprobs": "many"}, "logprobs"),
        ([5], {"request_lora": "adapter"}, "has no LoRA"),
        ([5], {"structured_outputs": {"json_object": True}}, "by llguidance and the model's tokenizer.json"),
    ],
)
async def test_bad_requests_are_answered(
    tokens: list[int], options: dict[str, Any], words: str, run_engine: Run
) -> None:
    """A request at fault gets one error delta that says why, and the next request is served."""
    async with run_engine() as driver:
        refused = await driver.generate(tokens, **options)
        assert refused.last.finish == FinishReason.ERROR
        assert refused.last.invalid
        assert words in refused.last.error
        assert len((await driver.generate([5, 6], max_tokens=3, ignore_eos=True)).tokens) == 3


async def test_an_aborted_sequence_is_silent_and_gives_its_blocks_back(
    run_engine: Run, prompt: Prompt, greedy: dict[str, Any]
) -> None:
    """After abort no delta comes, whether it ran, waited or was never there; the others go on."""
    async with run_engine(max_num_seqs=2) as driver:
        # The engine may take three steps until it is told to go on.
        steps, forward = threading.Semaphore(3), driver.engine._model.forward
        driver.engine._model.forward = lambda batch: steps.acquire() and forward(batch)
        running = driver.submit(prompt(9), max_tokens=100, **greedy)
        other = driver.submit(prompt(8, seed=1), max_tokens=60, **greedy)
        waiting = driver.submit(prompt(7, seed=2), max_tokens=100, **greedy)
        await driver.until(lambda: len(driver.results[running].tokens) > 2)
        for number in (running, waiting, 999):
            driver.engine.abort(number)
        steps.release(1000)
        assert len((await driver.result(other)).tokens) == 60
        assert len(driver.results[running].tokens) == 3
        assert driver.results[waiting].tokens == []
        last = await driver.generate(prompt(5), max_tokens=1, **greedy)
        assert last.last.finish
        assert driver.engine.metrics()["tritium_engine_kv_used_blocks"] == 0


async def test_a_step_that_fails_ends_its_sequences_not_the_engine(
    run_engine: Run, prompt: Prompt, greedy: dict[str, Any], tiny_model: Path
) -> None:
    """When computing itself breaks, every sequence is told why, and the engine serves the next."""
    async with run_engine() as driver:
        expected = (await driver.generate(prompt(20), max_tokens=4, **greedy)).tokens
        rotation = driver.engine._model._rotation
        driver.engine._model._rotation = rotation[:1]
        failed = await driver.generate(prompt(20, seed=1), max_tokens=4, **greedy)
        assert failed.last.finish == FinishReason.ERROR
        assert "IndexError" in failed.last.error
        assert not failed.last.invalid
        driver.engine._model._rotation = rotation
        assert (await driver.generate(prompt(20), max_tokens=4, **greedy)).tokens == expected


async def test_logprobs_come_with_every_token(run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """Asked-for log probabilities are in each delta, the token's own first; neighbours that did not ask get none."""
    async with run_engine() as driver:
        asked = driver.submit(prompt(9), max_tokens=4, logprobs=3, **greedy)
        silent = driver.submit(prompt(9), max_tokens=4, **greedy)
        for delta in (await driver.result(asked)).deltas:
            (reported,) = delta.logprobs
            assert reported[0].token_id == delta.token_ids[0]
            assert [each.rank for each in reported] == [1, 1, 2, 3]
        assert all(delta.logprobs is None for delta in (await driver.result(silent)).deltas)


async def test_the_loop_stays_free(run_engine: Run, prompt: Prompt, greedy: dict[str, Any]) -> None:
    """While the engine computes, the event loop turns: each step here waits for a turn of the loop, and gets it."""
    async with run_engine() as driver:
        loop, forward, steps = asyncio.get_running_loop(), driver.engine._model.forward, 0

        def step(batch: Any) -> Any:
            nonlocal steps
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(60), "the loop stands still while the engine computes"
            steps += 1
            return forward(batch)

        driver.engine._model.forward = step
        numbers = [driver.submit(prompt(60, seed=seed), max_tokens=60, **greedy) for seed in range(8)]
        results = await asyncio.gather(*(driver.result(number) for number in numbers))
        assert [len(result.tokens) for result in results] == [60] * 8
        assert steps >= 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_model_len": 4096}, "max_model_len 4096 is more than the 128 positions"),
        ({"max_model_len": "long"}, "engine arguments: Expected `int | null`"),
        (
            {"num_gpu_blocks_override": 2, "block_size": 8},
            "a cache of 2 blocks does not hold one context of 128 tokens, which takes 16",
        ),
        ({"kv_cache_memory_bytes": 50_000}, "a cache of 3 blocks"),
        ({"num_gpu_blocks_override": 10**9}, "MiB of memory"),
    ],
)
async def test_contradicting_arguments_do_not_start(arguments: dict[str, Any], words: str, tiny_model: Path) -> None:
    """An engine that cannot keep what its arguments promise says so at once."""
    engine = EmbeddedEngine(EngineSource(tiny_model, arguments))
    with pytest.raises(InferenceError, match=words):
        await engine.start(EngineSinks(lambda _: None, lambda _: None))
    await engine.stop()


async def test_what_is_ignored_is_noted(run_engine: Run) -> None:
    """Arguments that a reader of model.json would expect to work are named in the engine's notes, the rest not."""
    async with run_engine(
        dtype="bfloat16", tensor_parallel_size=2, enforce_eager=True, gpu_memory_utilization=0.5, kv_tiers="host=1GiB"
    ) as driver:
        assert driver.info.notes == (
            "dtype bfloat16: the embedded engine computes in float32",
            "kv_tiers: the embedded engine keeps nothing below its cache; vLLM does",
            "tensor_parallel_size 2: the embedded engine runs on one core",
        )
