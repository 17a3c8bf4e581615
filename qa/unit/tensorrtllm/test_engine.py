"""The tensorrtllm engine, whole, over a fake of TensorRT-LLM that has the real one's names and habits."""

import asyncio
import dataclasses
import importlib
import importlib.util
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from qa.fakes.record import record

from tritium.backends.engine import BlocksStored, EngineSinks, EngineSource, FinishReason, Role
from tritium.backends.tensorrtllm.engine import TensorRtLlmEngine
from tritium.core.errors import InvalidArgument, Unavailable

Serving = Callable[..., Any]
RECORDED = json.loads(Path("qa/fakes/tensorrt_llm.json").read_text())


def field_names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_the_fake_has_the_real_names(tensorrt_llm: Any) -> None:
    """Parameters and fields of the fake are those that were read of TensorRT-LLM's source, none more."""
    names = RECORDED["names"]
    llm = tensorrt_llm.LLM
    for method in ("generate_async", "get_kv_cache_events_async", "get_stats_async", "shutdown"):
        assert list(inspect.signature(getattr(llm, method)).parameters)[1:] == names[f"BaseLLM.{method}"]
    assert list(inspect.signature(llm.__init__).parameters)[1:-1] == names["BaseLLM.__init__"]
    sampling = importlib.import_module("tensorrt_llm.sampling_params")
    result = importlib.import_module("tensorrt_llm.executor.result")
    arguments = importlib.import_module("tensorrt_llm.llmapi.llm_args")
    assert field_names(sampling.SamplingParams) <= set(names["SamplingParams"])
    assert field_names(sampling.GuidedDecodingParams) == set(names["GuidedDecodingParams"])
    assert field_names(tensorrt_llm.DisaggregatedParams) <= set(names["DisaggregatedParams"])
    assert field_names(result.CompletionOutput) <= set(names["CompletionOutput"])
    assert field_names(result.Logprob) == set(names["Logprob"])
    requests = importlib.import_module("tensorrt_llm.executor.request")
    assert field_names(requests.LoRARequest) == set(names["LoRARequest"])
    for kind in ("KvCacheConfig", "CacheTransceiverConfig", "TorchLlmArgs"):
        assert set(getattr(arguments, kind).model_fields) <= set(names[kind])


def test_the_record_is_that_of_the_installed_package() -> None:
    """Where TensorRT-LLM itself is installed, what was written down of it is found in it."""
    found = importlib.util.find_spec("tensorrt_llm")
    if found is None or found.origin is None:
        pytest.skip("TensorRT-LLM is not installed: its names were read of sources, " + RECORDED["version"])
    real = record(Path(found.origin).parents[1], "tensorrt_llm")
    for name, given in RECORDED["names"].items():
        assert set(given) <= {*real[name], *real["BaseLlmArgs"]}, name


async def test_it_generates(serving: Serving) -> None:
    """Tokens, finish reason and the cache's share come through; load and counters follow."""
    async with serving(max_num_seqs=8) as driver:
        assert (driver.info.engine, driver.info.version) == ("tensorrtllm", "1.2.1")
        assert (driver.info.context_tokens, driver.info.block_tokens, driver.info.max_sequences) == (4096, 32, 8)
        first = await driver.generate([10, 20], max_tokens=3)
        assert (first.tokens, first.cached_tokens, first.last.finish) == ([21, 22, 23], 0, FinishReason.LENGTH)
        assert (await driver.generate([10, 20], max_tokens=1)).cached_tokens == 32
        stopped = await driver.generate([10], max_tokens=9, stop_token_ids=[12])
        assert (stopped.tokens, stopped.last.finish, stopped.last.stop_token) == ([11, 12], FinishReason.STOP, 12)
        assert (await driver.generate([1], max_tokens=9)).tokens == [2]
        async with asyncio.timeout(60):
            while not driver.engine.metrics()["tritium_engine_kv_total_blocks"]:
                await driver.generate([5], max_tokens=1)
        assert driver.engine.metrics()["tritium_engine_output_tokens_total"] >= 3 + 1 + 2 + 1


async def test_what_is_asked_for_arrives(serving: Serving, tensorrt_llm: Any) -> None:
    """Guides, biases and salts reach TensorRT-LLM in its own words."""
    async with serving() as driver:
        await driver.generate(
            [5], max_tokens=1, structured_outputs={"regex": "a+"}, logit_bias={"7": 2.0}, request_cache_salt="s"
        )
        (asked,) = tensorrt_llm.LLM.started[0].requests
        parameters = asked["sampling_params"]
        assert parameters.guided_decoding.regex == "a+"
        assert (parameters.embedding_bias[7], len(parameters.embedding_bias)) == (2.0, 1000)
        assert asked["cache_salt"] == "s"
        result = await driver.generate([5, 6], max_tokens=2, logprobs=1, prompt_logprobs=1)
        assert [delta.logprobs[0][0].token_id for delta in result.deltas] == [7, 8]
        assert [row and row[0].token_id for row in result.deltas[0].prompt_logprobs] == [None, 6]


async def test_events_come_through(serving: Serving) -> None:
    """TensorRT-LLM's full blocks are told; without reuse there are none."""
    async with serving(kv_cache_config={"tokens_per_block": 2}) as driver:
        async with asyncio.timeout(60):
            while not driver.events:
                await driver.generate([3, 4, 5, 6, 7], max_tokens=1)
        (stored,) = [event for event in driver.events if isinstance(event, BlocksStored)][:1]
        assert (stored.token_ids, stored.block_tokens, stored.tier) == ([3, 4, 5, 6], 2, "device")


async def test_bad_requests_fail_alone(serving: Serving) -> None:
    """What the request asks for and TensorRT-LLM has not, or cannot hold, is told as the request's fault."""
    async with serving(max_num_batched_tokens=16) as driver:
        for sampling, message in (
            ({"allowed_token_ids": [1]}, "no sampling parameter 'allowed_token_ids' (TensorRT-LLM cannot restrict"),
            ({"request_priority": 1}, "takes no priority"),
            ({"request_lora": "nobody"}, "no LoRA adapter 'nobody'; it has none"),
            ({"structured_outputs": {"json": {}, "regex": "a"}}, "takes one of"),
        ):
            failed = (await driver.generate([5], **sampling)).last
            assert failed.invalid
            assert message in failed.error
        assert "should not exceed max_num_tokens" in (await driver.generate([5] * 17)).last.error
        assert (await driver.generate([5], max_tokens=1)).tokens == [6]


async def test_abort_reaches_tensorrt_llm(serving: Serving, tensorrt_llm: Any) -> None:
    """An aborted sequence ends in TensorRT-LLM too, and no other with it; all ends with the engine."""
    async with serving() as driver:
        dropped = driver.submit([5], ignore_eos=True)
        kept = driver.submit([6], max_tokens=300, ignore_eos=True)
        await driver.until(lambda: len(driver.results[dropped].tokens) > 3)
        driver.engine.abort(dropped)
        driver.engine.abort(999)
        assert len((await driver.result(kept)).tokens) == 300
        (llm,) = tensorrt_llm.LLM.started
        assert [each.aborted for each in llm.outputs] == [True, False]
        assert not llm.running
    assert llm.closed


async def test_adapters_are_numbered_once(serving: Serving, tensorrt_llm: Any, tmp_path: Path) -> None:
    """A name that comes again with another path is another adapter to TensorRT-LLM; a bad path is refused."""
    async with serving(lora_modules={"pirate": str(tmp_path)}) as driver:
        assert driver.info.lora
        await driver.generate([5], max_tokens=1, request_lora="pirate")
        await driver.engine.unload_lora("pirate")
        await driver.engine.load_lora("pirate", str(tmp_path))
        await driver.generate([5], max_tokens=1, request_lora="pirate")
        numbers = [asked["lora_request"].lora_int_id for asked in tensorrt_llm.LLM.started[0].requests]
        assert numbers == [1, 2]
        with pytest.raises(InvalidArgument, match="adapter 'bad': lora_path"):
            await driver.engine.load_lora("bad", "/missing")


async def test_roles_hand_over(serving: Serving, tensorrt_llm: Any) -> None:
    """A context worker's parameters go to a generation worker, through what can be written in a frame."""
    async with serving(Role.PREFILL) as prefiller, serving(Role.DECODE) as decoder:
        transfer = (await prefiller.generate([5], max_tokens=1)).last.transfer
        assert transfer == {
            "request_type": "context_only",
            "first_gen_tokens": [6],
            "ctx_request_id": 7,
            "opaque_state": b"\x00kv",
        }
        assert (await decoder.generate([5], transfer=transfer, max_tokens=3)).tokens == [6, 7, 8]
        part = tensorrt_llm.LLM.started[1].requests[0]["disaggregated_params"]
        assert (part.request_type, part.opaque_state) == ("generation_only", b"\x00kv")
        assert (await decoder.generate([5], max_tokens=1)).tokens == [6]
        foreign = (await decoder.generate([5], transfer={"engine": "other"}, max_tokens=1)).last
        assert (foreign.finish, foreign.invalid) == (FinishReason.ERROR, False)


async def test_first_token_is_the_context_workers(serving: Serving) -> None:
    """It is sampled as the request asks, and stands at the head of the answer with its log probability."""
    sampling = {"temperature": 0.7, "logprobs": 2}
    async with serving(Role.PREFILL) as prefiller, serving(Role.DECODE) as decoder:
        assert prefiller.info.first_token_moves
        transfer = (await prefiller.generate([5], max_tokens=1, **sampling)).last.transfer
        assert transfer["first_gen_tokens"] == [7], "the likeliest would be 6"
        # Through a frame and back.
        transfer = msgspec.msgpack.decode(msgspec.msgpack.encode(transfer))
        answer = await decoder.generate([5], transfer=transfer, max_tokens=3, **sampling)
        assert answer.tokens == [7, 7, 8]
        first = answer.deltas[0].logprobs[0]
        assert [(entry.token_id, entry.logprob, entry.rank) for entry in first] == [
            (7, -0.5, 1),
            (7, -0.5, 1),
            (8, -1.0, 2),
        ]


async def test_answer_that_ends_with_its_first_token(serving: Serving) -> None:
    """The context worker says so and hands nothing over."""
    async with serving(Role.PREFILL) as prefiller:
        last = (await prefiller.generate([1], max_tokens=1)).last
        assert (last.token_ids, last.finish, last.transfer) == ([2], FinishReason.STOP, None)


async def test_a_wrong_argument_does_not_start(serving: Serving) -> None:
    """Before anything is loaded."""
    with pytest.raises(InvalidArgument, match="no argument 'no_such'"):
        async with serving(no_such=1):
            pass


async def test_without_the_package_it_says_what_to_install() -> None:
    """In one sentence."""
    if importlib.util.find_spec("tensorrt_llm") is not None:
        pytest.skip("TensorRT-LLM is installed")
    engine = TensorRtLlmEngine(EngineSource(Path("m")))
    with pytest.raises(Unavailable, match="TensorRT-LLM is not installed") as error:
        await engine.start(EngineSinks(lambda _: None, lambda _: None))
    assert "pip install" in error.value.hint
    await engine.stop()
