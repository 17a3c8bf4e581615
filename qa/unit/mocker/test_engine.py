"""The mocker as a LanguageEngine."""

import asyncio
import functools
import json
import operator
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.engine import BlocksRemoved, BlocksStored, FinishReason, Role
from tritium.core.errors import InvalidArgument

Mocking = Callable[..., Any]


async def test_answers_are_always_the_same(mocking: Mocking) -> None:
    """The same prompt and seed give the same tokens in any engine; another seed gives others."""
    async with mocking() as one, mocking() as other, mocking(seed=7) as seeded:
        first = (await one.generate([20, 37], max_tokens=12)).tokens
        assert (await other.generate([20, 37], max_tokens=12)).tokens == first
        assert (await seeded.generate([20, 37], max_tokens=12)).tokens != first
        assert (await one.generate([20, 37], max_tokens=12, seed=7)).tokens != first
        assert len(set(first)) > 8


async def test_a_moved_generation_goes_on(mocking: Mocking) -> None:
    """What was generated, given as a prompt, continues as if it had not been interrupted."""
    async with mocking() as driver:
        whole = (await driver.generate([50], max_tokens=6)).tokens
        begun = (await driver.generate([50], max_tokens=2)).tokens
        assert whole == begun + (await driver.generate([50, *begun], max_tokens=4)).tokens


async def test_a_moved_echo_goes_on(mocking: Mocking) -> None:
    """An engine that says the prompt again tells it from what another worker said before."""
    async with mocking(mocker={"answer": "echo"}) as driver:
        whole = (await driver.generate([50, 51, 52], max_tokens=8)).tokens
        rest = await driver.generate([50, 51, 52, *whole[:2]], max_tokens=6, request_resumed_tokens=2)
        assert whole == whole[:2] + rest.tokens


async def test_a_step_holds_every_running_sequence(mocking: Mocking) -> None:
    """Sequences submitted together move together, one token each a step."""
    async with mocking() as driver:
        numbers = [driver.submit([100 + index], max_tokens=4) for index in range(10)]
        for number in numbers:
            await driver.result(number)
        assert [len(step.deltas) for step in driver.steps] == [10] * 4


async def test_prefixes_are_cached_and_evicted(mocking: Mocking) -> None:
    """Full blocks are found again, those of the answer too; they are announced, and leave when others need the room."""
    async with mocking(block_size=4, num_gpu_blocks_override=6, max_model_len=24) as driver:
        tokens = list(range(30, 42))
        first = await driver.generate(tokens, max_tokens=5)
        second = await driver.generate([*tokens, *first.tokens], max_tokens=1)
        assert (first.cached_tokens, second.cached_tokens) == (0, 16)
        stored = [event for event in driver.events if isinstance(event, BlocksStored)]
        assert functools.reduce(operator.iadd, (event.token_ids for event in stored), []) == tokens + first.tokens[:4]
        await driver.generate(list(range(60, 80)), max_tokens=1)
        assert any(isinstance(event, BlocksRemoved) for event in driver.events)


async def test_an_adapter_and_a_salt_have_caches_of_their_own(mocking: Mocking, tmp_path: Path) -> None:
    """Blocks are shared only among sequences of the same adapter and salt."""
    async with mocking(block_size=4, lora_modules={"pirate": "/x"}) as driver:
        tokens = list(range(30, 42))
        options: list[dict[str, str]] = [
            {},
            {"request_lora": "pirate"},
            {"request_cache_salt": "a"},
            {"request_cache_salt": "b"},
            {},
        ]
        cached = [(await driver.generate(tokens, max_tokens=1, **option)).cached_tokens for option in options]
        assert cached == [0, 0, 0, 0, 8]
        for path in ("/no/such/folder", "long" * 2000):
            with pytest.raises(InvalidArgument, match="adapter 'robot'"):
                await driver.engine.load_lora("robot", path)
        await driver.engine.load_lora("robot", str(tmp_path))
        assert (await driver.generate(tokens, max_tokens=1, request_lora="robot")).last.error is None
        await driver.engine.unload_lora("robot")
        refused = (await driver.generate(tokens, max_tokens=1, request_lora="robot")).last
        assert refused.invalid
        assert refused.error == "the model has no LoRA adapter 'robot'; it has pirate"


async def test_without_prefix_caching_nothing_is_shared_or_told(mocking: Mocking) -> None:
    """enable_prefix_caching false: every prompt is computed whole, and there are no events."""
    async with mocking(block_size=4, enable_prefix_caching=False) as driver:
        for _ in range(2):
            assert (await driver.generate(list(range(30, 42)), max_tokens=9)).cached_tokens == 0
        assert driver.events == []
        assert driver.engine.metrics()["tritium_engine_kv_used_blocks"] == 0


async def test_what_does_not_fit_waits_or_is_refused(mocking: Mocking) -> None:
    """Beyond the blocks sequences wait their turn or start again; beyond the context they are refused."""
    async with mocking(block_size=4, num_gpu_blocks_override=4, max_model_len=16) as driver:
        numbers = [driver.submit([20 + index, 21], max_tokens=8) for index in range(4)]
        assert [len((await driver.result(number)).tokens) for number in numbers] == [8] * 4
        refused = await driver.generate([20] * 16, max_tokens=1)
        assert refused.last.invalid
        assert "16 tokens and the context of this model is 16" in refused.last.error
        assert (await driver.generate([20] * 14, max_tokens=50)).last.finish == FinishReason.LENGTH
        metrics = driver.engine.metrics()
        assert metrics["tritium_engine_output_tokens_total"] == 4 * 8 + 2
        assert metrics["tritium_engine_preemptions_total"] > 0
        assert metrics["tritium_engine_kv_used_blocks"] == 0


async def test_lengths_are_heeded(mocking: Mocking) -> None:
    """Answers end by themselves at their length, not before min_tokens, not at all with ignore_eos, and at stop ids."""
    async with mocking(mocker={"answer_tokens": 5}) as driver:
        lengths = [len((await driver.generate([30 + n], max_tokens=500)).tokens) for n in range(200)]
        assert 3.5 < sum(lengths) / len(lengths) < 6.5
        assert len((await driver.generate([30], max_tokens=50, min_tokens=40)).tokens) >= 40
        endless = await driver.generate([30], max_tokens=50, ignore_eos=True)
        assert (len(endless.tokens), endless.last.finish) == (50, FinishReason.LENGTH)
        stop = endless.tokens[3]
        stopped = await driver.generate([30], max_tokens=50, ignore_eos=True, stop_token_ids=[stop])
        assert stopped.tokens == endless.tokens[: endless.tokens.index(stop) + 1]
        assert (stopped.last.finish, stopped.last.stop_token) == (FinishReason.STOP, stop)


async def test_the_prompt_is_echoed(mocking: Mocking) -> None:
    """The answer `echo` is the prompt, once; with ignore_eos over and over."""
    async with mocking(mocker={"answer": "echo"}) as driver:
        once = await driver.generate([5, 6, 7], max_tokens=9)
        assert (once.tokens, once.last.finish) == ([5, 6, 7], FinishReason.STOP)
        assert (await driver.generate([5, 6, 7], max_tokens=7, ignore_eos=True)).tokens == [5, 6, 7, 5, 6, 7, 5]


async def test_log_probabilities_have_the_shape_of_real_ones(mocking: Mocking) -> None:
    """The sampled token comes first, then the likeliest; the prompt's first token has none."""
    async with mocking() as driver:
        result = await driver.generate([20, 21, 22], max_tokens=3, logprobs=2, prompt_logprobs=1)
        assert result.deltas[0].prompt_logprobs[0] is None
        assert [row[0].token_id for row in result.deltas[0].prompt_logprobs[1:]] == [21, 22]
        for delta, token in zip(result.deltas, result.tokens, strict=True):
            (row,) = delta.logprobs
            assert [entry.token_id for entry in row[:2]] == [token, token]
            assert [entry.rank for entry in row] == [1, 1, 2]


async def test_the_pace_is_kept(mocking: Mocking) -> None:
    """Steps take the time they are said to cost, and `speedup` divides it."""
    for base_ms, speedup, unhurried_s in ((10, 1, 60), (50_000, 5_000, 250)):
        timing = {"base_ms": base_ms, "prompt_token_ms": base_ms / 20}
        async with mocking(mocker={"timing": timing, "speedup": speedup}) as driver:
            began = time.perf_counter()
            await driver.generate([20] * 100, max_tokens=5)
            assert 0.1 <= time.perf_counter() - began < unhurried_s


async def test_roles_hand_over(mocking: Mocking) -> None:
    """A prefill worker returns a description; a decode worker given it waits for the KV and computes no prompt."""
    timing = {"prompt_token_ms": 20.0}
    transfer = {"timing": timing, "kv_bytes": 1 << 20, "transfer_gib_s": 1.0, "speedup": 10}
    async with mocking(Role.PREFILL) as prefiller, mocking(Role.DECODE, mocker=transfer) as decoder:
        prefilled = await prefiller.generate([30] * 512, max_tokens=1)
        began = time.perf_counter()
        decoded = await decoder.generate([30] * 512, transfer=prefilled.last.transfer, max_tokens=3)
        assert decoded.cached_tokens == 511
        assert time.perf_counter() - began >= 0.05  # half a GiB at one GiB/s, ten times as fast
        assert decoder.engine.metrics()["tritium_kv_received_bytes_total"] == 512 << 20
        foreign = (await decoder.generate([30] * 8, transfer={"engine": "other"}, max_tokens=1)).last
        assert (foreign.finish, foreign.invalid) == (FinishReason.ERROR, False)


async def test_abort_is_silent(mocking: Mocking) -> None:
    """Aborted sequences say nothing more, also those that were refused, wait, or expect KV; their blocks are free."""
    slow = {"timing": {}, "transfer_latency_ms": 60_000}
    async with mocking(Role.DECODE, max_num_seqs=2, mocker=slow) as driver:
        running = driver.submit([20], max_tokens=10**6)
        arriving = driver.submit([20] * 40, max_tokens=10, transfer={"engine": "mocker"})
        waiting = driver.submit([20], max_tokens=10)
        await driver.until(lambda: len(driver.results[running].tokens) > 3)
        refused = driver.submit([], max_tokens=1)
        for number in (waiting, refused, running, arriving, 999):
            driver.engine.abort(number)
        heard = len(driver.results[running].tokens)
        assert len((await driver.generate([20], max_tokens=2)).tokens) == 2
        assert len(driver.results[running].tokens) == heard
        assert driver.results[waiting].deltas == driver.results[refused].deltas == []
        assert driver.results[arriving].deltas == []
        assert driver.engine.metrics()["tritium_engine_kv_used_blocks"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mocker": {"speed": 2}}, "speed"),
        ({"mocker": {"gpu": "v100"}}, "v100"),
        ({"mocker": {"gpu": "a100", "precision": "fp8"}}, "the a100 has no fp8"),
        ({"mocker": {"gpu": "l40s", "model": "70b"}}, "do not fit into 1 l40s"),
        ({"mocker": {"gpu": "h100", "timing": {}}}, "gpu and timing each say"),
        ({"mocker": {"profile": "none.npz"}}, "none.npz is no profile"),
        ({"mocker": {"faults": [{"kind": "explode"}]}}, "explode"),
        ({"block_size": 16, "num_gpu_blocks_override": 2, "max_model_len": 64}, "do not hold one context of 64"),
    ],
)
async def test_wrong_arguments_are_refused(mocking: Mocking, arguments: dict[str, Any], message: str) -> None:
    """An argument that means nothing, or cannot be, does not start."""
    with pytest.raises(InvalidArgument, match=message):
        async with mocking(**arguments):
            pass


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"temprature": 1}, "'temprature'; did you mean temperature?"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"structured_outputs": {"regex": "a"}}, "follows no grammar"),
    ],
)
async def test_wrong_fields_are_refused(mocking: Mocking, sampling: dict[str, Any], message: str) -> None:
    """A sampling field that is unknown or cannot be heeded fails its request alone; one without meaning is taken."""
    async with mocking() as driver:
        refused = (await driver.generate([20], **sampling)).last
        assert refused.invalid
        assert message in refused.error
        assert len((await driver.generate([20], max_tokens=3, temperature=0.5, top_p=0.9, min_p=0.1)).tokens) == 3


async def test_words_are_taken_from_the_tokenizer(mocking: Mocking, tmp_path: Path) -> None:
    """Answers are whole words of the model's vocabulary; its end of sequence ends them."""
    words = {
        f"Ġ{a}{b}": 10 + index
        for index, (a, b) in enumerate((a, b) for a in "abcdefghijklmnop" for b in "rstuvwxyzabcdefg")
    }
    vocabulary = {"<s>": 0, "</s>": 1, "!": 2, **words, "Ġ4": 400, "xyz": 401}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocabulary}}))
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 402, "eos_token_id": [1, 0]}))
    async with mocking(folder=tmp_path, mocker={"answer_tokens": 20}) as driver:
        result = await driver.generate([0], max_tokens=400)
        assert result.last.finish == FinishReason.STOP
        assert result.tokens[-1] == 1
        assert set(result.tokens[:-1]) <= set(words.values())


async def test_faults_happen_when_they_should(mocking: Mocking) -> None:
    """`slow` makes steps last, `forget` drops the cache, `freeze` stops all, each after its step."""
    faults = [
        {"kind": "slow", "step": 3, "factor": 1, "least_ms": 20, "seconds": 0.1},
        {"kind": "forget", "step": 12},
        {"kind": "freeze", "step": 14},
        {"kind": "die", "step": 1, "workers": ["another"]},
    ]
    async with mocking(block_size=4, mocker={"faults": faults}) as driver:
        began = time.perf_counter()
        await driver.generate(list(range(20, 28)), max_tokens=12)
        assert time.perf_counter() - began >= 0.1
        assert (await driver.generate(list(range(20, 28)), max_tokens=1)).cached_tokens == 0
        frozen = driver.submit([20], max_tokens=100)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await driver.result(frozen)
        assert len(driver.results[frozen].tokens) == 1


async def test_dying_is_said(mocking: Mocking) -> None:
    """`die` tells the worker that the engine cannot go on."""
    async with mocking(mocker={"faults": [{"kind": "die", "step": 2}]}) as driver:
        said = asyncio.get_running_loop().create_future()
        driver.engine._sinks = type(driver.engine._sinks)(driver.engine._sinks.on_step, lambda _: None, said.set_result)
        driver.submit([20], max_tokens=5)
        assert "told to die at step 2" in await asyncio.wait_for(said, 60)
