"""The engine that only counts."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tritium.backends.engine import BlocksRemoved, BlocksStored, EngineSource, FinishReason, Role
from tritium.backends.mock import MockEngine
from tritium.core.errors import InvalidArgument

Drive = Callable[..., Any]


def mock(role: Role = Role.AGGREGATED, **arguments: Any) -> MockEngine:
    return MockEngine(EngineSource(Path("nowhere"), arguments, role))


async def test_it_counts_to_max_tokens(drive: Drive) -> None:
    """Tokens go up from the prompt's last, over the end of the vocabulary to the first that is not special."""
    async with drive(mock(mock_vocabulary=40)) as driver:
        result = await driver.generate([20, 37], max_tokens=5)
        assert result.tokens == [38, 39, 16, 17, 18]
        assert result.last.finish == FinishReason.LENGTH


async def test_a_moved_generation_goes_on(drive: Drive) -> None:
    """What was generated, given as a prompt, continues as if it had not been interrupted."""
    async with drive(mock()) as driver:
        whole = (await driver.generate([50], max_tokens=6)).tokens
        begun = (await driver.generate([50], max_tokens=2)).tokens
        assert whole == begun + (await driver.generate([50, *begun], max_tokens=4)).tokens


async def test_a_step_holds_every_running_sequence(drive: Drive) -> None:
    """Sequences submitted together move together, one token each a step."""
    async with drive(mock()) as driver:
        numbers = [driver.submit([100 + index], max_tokens=4) for index in range(10)]
        for number in numbers:
            await driver.result(number)
        assert [len(step.deltas) for step in driver.steps] == [10] * 4


async def test_prefixes_are_cached_and_evicted(drive: Drive) -> None:
    """Full prompt blocks are found again, announced, and leave when others need the room."""
    async with drive(mock(block_size=4, num_gpu_blocks_override=6)) as driver:
        tokens = list(range(30, 42))
        first = await driver.generate(tokens, max_tokens=1)
        second = await driver.generate(tokens, max_tokens=1)
        assert (first.cached_tokens, second.cached_tokens) == (0, 8)
        assert [event.token_ids for event in driver.events if isinstance(event, BlocksStored)] == [tokens]
        await driver.generate(list(range(60, 80)), max_tokens=1)
        assert any(isinstance(event, BlocksRemoved) for event in driver.events)


async def test_what_does_not_fit_waits_or_is_refused(drive: Drive) -> None:
    """Beyond the blocks sequences wait their turn; beyond the context they are refused."""
    async with drive(mock(block_size=4, num_gpu_blocks_override=4, max_model_len=16)) as driver:
        numbers = [driver.submit([20, 21], max_tokens=8) for _ in range(4)]
        assert [len((await driver.result(number)).tokens) for number in numbers] == [8] * 4
        assert max(step.running for step in driver.steps) == 1
        refused = await driver.generate([20] * 16, max_tokens=1)
        assert refused.last.invalid
        assert "16 tokens and the context of this model is 16" in refused.last.error
        assert driver.engine.metrics()["tritium_engine_output_tokens_total"] == 4 * 8


async def test_the_pace_is_kept(drive: Drive) -> None:
    """Steps and uncached prompt tokens take the time they are said to cost."""
    async with drive(mock(mock_step_ms=10, mock_prefill_us=500)) as driver:
        began = time.perf_counter()
        await driver.generate([20] * 100, max_tokens=5)
        assert time.perf_counter() - began > 0.09


async def test_roles_hand_over(drive: Drive) -> None:
    """A prefill worker returns a description, and a decode worker given one has nothing to compute."""
    async with drive(mock(Role.PREFILL)) as prefiller, drive(mock(Role.DECODE)) as decoder:
        prefilled = await prefiller.generate([30] * 40, max_tokens=1)
        decoded = await decoder.generate([30] * 40, transfer=prefilled.last.transfer, max_tokens=3)
        assert decoded.cached_tokens == 39


async def test_abort_is_silent(drive: Drive) -> None:
    """Aborted sequences say nothing more, also those that were refused or wait."""
    async with drive(mock(max_num_seqs=1)) as driver:
        running = driver.submit([20], max_tokens=10**6)
        waiting = driver.submit([20], max_tokens=10)
        await driver.until(lambda: len(driver.results[running].tokens) > 3)
        refused = driver.submit([], max_tokens=1)
        for number in (waiting, refused, running, 999):
            driver.engine.abort(number)
        heard = len(driver.results[running].tokens)
        assert len((await driver.generate([20], max_tokens=2)).tokens) == 2
        assert len(driver.results[running].tokens) == heard
        assert driver.results[waiting].deltas == driver.results[refused].deltas == []


async def test_wrong_arguments_are_refused(drive: Drive) -> None:
    """An argument of the wrong type does not start."""
    with pytest.raises(InvalidArgument, match="mock_step_ms"):
        async with drive(mock(mock_step_ms="slow")):
            pass
