"""The sglang engine, whole, over a fake of SGLang that has the real one's names and habits."""

import asyncio
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
from tritium.backends.sglang.engine import SglangEngine
from tritium.core.errors import InvalidArgument, Unavailable

Serving = Callable[..., Any]
RECORDED = json.loads(Path("qa/fakes/sglang.json").read_text())


def test_the_fake_has_the_real_names(sglang: Any) -> None:
    """Parameters and fields of the fake are those that were read of SGLang's source, none more."""
    names = RECORDED["names"]
    for method in ("async_generate", "async_load_lora_adapter", "async_unload_lora_adapter"):
        given = list(inspect.signature(getattr(sglang.Engine, method)).parameters)[1:]
        assert given == names[f"Engine.{method}"]
    manager = sglang.TokenizerManager
    assert list(inspect.signature(manager.abort_request).parameters)[1:] == names["TokenizerManager.abort_request"]
    assert list(inspect.signature(manager.get_loads).parameters)[1:] == names["TokenizerControlMixin.get_loads"]
    assert set(sglang.ServerArgs.__struct_fields__) <= set(names["fields"])
    assert set(sglang.SamplingParams.__struct_fields__) <= set(names["SamplingParams"])
    assert list(sglang.LoRAUpdateOutput.__struct_fields__) == names["LoRAUpdateOutput"]
    publisher = importlib.import_module("sglang.srt.publisher")
    assert list(publisher.BlockStored.__struct_fields__) == names["BlockStored"]
    assert list(publisher.EventBatch.__struct_fields__) == names["EventBatch"]
    load = asyncio.run(manager(sglang.ServerArgs(model_path="m")).get_loads())[0]
    assert set(vars(load)) <= set(names["LoadSnapshot"])
    assert sglang.__version__ == RECORDED["version"]


def test_the_record_is_that_of_the_installed_package() -> None:
    """Where SGLang itself is installed, what was written down of it is compared with it."""
    found = importlib.util.find_spec("sglang")
    if found is None or found.origin is None:
        pytest.skip("SGLang is not installed: its names were read of the source of " + RECORDED["version"])
    assert record(Path(found.origin).parents[1], "sglang") == RECORDED["names"]


async def test_it_generates(serving: Serving) -> None:
    """Tokens, finish reason and the cache's share come through; a step holds what one turn brings."""
    async with serving(page_size=16) as driver:
        assert (driver.info.engine, driver.info.version) == ("sglang", "0.5.23")
        assert (driver.info.block_tokens, driver.info.total_blocks) == (16, 4096)
        first = await driver.generate([10, 20], max_tokens=3)
        assert (first.tokens, first.cached_tokens, first.last.finish) == ([21, 22, 23], 0, FinishReason.LENGTH)
        assert (await driver.generate([10, 20], max_tokens=1)).cached_tokens == 32
        together = [driver.submit([number], max_tokens=4) for number in (100, 200, 300)]
        assert [(await driver.result(number)).tokens[0] for number in together] == [101, 201, 301]
        stopped = await driver.generate([10], max_tokens=9, stop_token_ids=[12])
        assert (stopped.tokens, stopped.last.finish, stopped.last.stop_token) == ([11, 12], FinishReason.STOP, 12)
        assert driver.engine.metrics()["tritium_engine_output_tokens_total"] == 3 + 1 + 12 + 2


async def test_log_probabilities_come_through(serving: Serving) -> None:
    """Of the answer and of the prompt."""
    async with serving() as driver:
        result = await driver.generate([5, 6], max_tokens=2, logprobs=1, prompt_logprobs=0)
        assert [row[0][0].token_id for row in (delta.logprobs for delta in result.deltas)] == [7, 8]
        assert [row and row[0].token_id for row in result.deltas[0].prompt_logprobs] == [None, 6]


async def test_events_come_through(serving: Serving) -> None:
    """SGLang's blocks, with unsigned hashes."""
    async with serving(page_size=2) as driver:
        await driver.generate([3, 4, 5, 6], max_tokens=1)
        async with asyncio.timeout(60):
            while not any(isinstance(event, BlocksStored) for event in driver.events):
                await driver.generate([3, 4, 5, 6], max_tokens=1)
        stored = next(event for event in driver.events if isinstance(event, BlocksStored))
        assert (stored.token_ids, stored.block_tokens, stored.tier) == ([3, 4, 5, 6], 2, "device")
        assert all(0 <= number < 1 << 64 for number in stored.hashes)


async def test_bad_requests_fail_alone(serving: Serving) -> None:
    """What the request asks for and SGLang has not, refuses, or cannot hold is told as the request's fault."""
    async with serving(context_length=16) as driver:
        for sampling, message in (
            ({"bad_words": ["x"]}, "no sampling parameter 'bad_words' (SGLang has no forbidden words"),
            ({"structured_outputs": {"json": "{"}}, "SGLang: Failed to compile json grammar"),
            ({"request_lora": "nobody"}, "no LoRA adapter 'nobody'; it has none"),
        ):
            failed = (await driver.generate([5], **sampling)).last
            assert failed.invalid
            assert message in failed.error
        assert "longer than the model's context" in (await driver.generate([5] * 16)).last.error
        assert (await driver.generate([5], max_tokens=1)).tokens == [6]


async def test_abort_reaches_sglang(serving: Serving, sglang: Any) -> None:
    """An aborted sequence ends in SGLang too, and no other with it."""
    async with serving(context_length=1 << 20) as driver:
        dropped = driver.submit([5], ignore_eos=True)
        kept = driver.submit([6], max_tokens=500, ignore_eos=True)
        await driver.until(lambda: len(driver.results[dropped].tokens) > 3)
        driver.engine.abort(dropped)
        driver.engine.abort(999)
        assert len((await driver.result(kept)).tokens) == 500
        (engine,) = sglang.Engine.started
        assert len(engine.tokenizer_manager.aborted) == 1
        assert not engine.tokenizer_manager.running
        heard = len(driver.results[dropped].deltas)
        await driver.generate([7], max_tokens=5)
        assert len(driver.results[dropped].deltas) == heard
    assert engine.closed


async def test_adapters_are_loaded_while_it_runs(serving: Serving, sglang: Any) -> None:
    """Those of model.json and those that come later are asked for by name; a bad one is refused in SGLang's words."""
    async with serving(lora_modules={"pirate": "/p"}) as driver:
        assert driver.info.lora
        await driver.engine.load_lora("robot", "/r")
        for name in ("pirate", "robot"):
            assert (await driver.generate([5], max_tokens=1, request_lora=name)).tokens == [6]
        assert [request["lora_path"] for request in sglang.Engine.started[0].requests] == ["pirate", "robot"]
        with pytest.raises(InvalidArgument, match="adapter 'bad': /missing has no"):
            await driver.engine.load_lora("bad", "/missing")
        await driver.engine.unload_lora("robot")
        await driver.engine.unload_lora("robot")
        assert (await driver.generate([5], request_lora="robot")).last.invalid


async def test_roles_meet_in_a_room(serving: Serving) -> None:
    """A prefill worker says at once where its KV will be; the decode worker meets it there; alone it refuses."""
    async with serving(Role.PREFILL) as prefiller, serving(Role.DECODE) as decoder:
        assert prefiller.info.transfer == "nixl"
        transfer = (await prefiller.generate([5], max_tokens=1)).last.transfer
        assert set(transfer) == {"bootstrap_host", "bootstrap_port", "bootstrap_room"}
        assert (await decoder.generate([5], transfer=transfer, max_tokens=3)).tokens == [6, 7, 8]
        alone = (await decoder.generate([5], max_tokens=3)).last
        assert (alone.finish, alone.invalid) == (FinishReason.ERROR, False)
        assert "computes no prompts" in alone.error


async def test_first_token_is_the_prefill_workers(serving: Serving) -> None:
    """It is sampled where the prompt is computed, as the request asks, and heads the answer of the decode worker."""
    async with serving(Role.PREFILL) as prefiller, serving(Role.DECODE) as decoder:
        assert (prefiller.info.first_token_moves, prefiller.info.computes_prompts) == (True, True)
        assert not decoder.info.computes_prompts
        transfer = (await prefiller.generate([5], max_tokens=1, seed=3)).last.transfer
        assert (await decoder.generate([5], transfer=transfer, max_tokens=3, seed=3)).tokens == [9, 7, 8]
        unasked = (await prefiller.generate([5], max_tokens=1, request_keep=False)).last
        assert (unasked.finish, unasked.transfer) == (FinishReason.ERROR, None)
        assert "for others alone" in unasked.error


async def test_priority_needs_its_setting(serving: Serving, sglang: Any) -> None:
    """SGLang is told a request's priority only where it schedules by it, and then as ours: the lowest first."""
    async with serving() as plain, serving(enable_priority_scheduling=True) as scheduled:
        for driver in (plain, scheduled):
            await driver.generate([5], max_tokens=1, request_priority=3)
        assert [engine.requests[0]["priority"] for engine in sglang.Engine.started] == [None, 3]
        assert sglang.Engine.started[1].server_args.schedule_low_priority_values_first


async def test_a_wrong_argument_does_not_start(serving: Serving) -> None:
    """Before anything is loaded."""
    with pytest.raises(InvalidArgument, match="no argument 'no_such'"):
        async with serving(no_such=1):
            pass


async def test_without_the_package_it_says_what_to_install() -> None:
    """In one sentence."""
    if importlib.util.find_spec("sglang") is not None:
        pytest.skip("SGLang is installed")
    engine = SglangEngine(EngineSource(Path("m")))
    with pytest.raises(Unavailable, match="SGLang is not installed") as error:
        await engine.start(EngineSinks(lambda _: None, lambda _: None))
    assert "pip install" in error.value.hint
    await engine.stop()
    assert msgspec.json.encode(engine.metrics())
