"""The engine that gives the prompt back."""

import time
from pathlib import Path
from typing import Any

import pytest
from qa.unit.embedded.conftest import driving

from tritium.backends.echo import EchoEngine
from tritium.backends.engine import EngineSource, FinishReason, Role
from tritium.core.errors import InvalidArgument


def echoing(role: Role = Role.AGGREGATED, **arguments: Any) -> Any:
    return driving(EchoEngine(EngineSource(Path("nowhere"), {"tokens_per_second": 0} | arguments, role)))


async def test_it_says_the_prompt() -> None:
    """Once; no more than max_tokens; with ignore_eos up to max_tokens."""
    async with echoing() as driver:
        for sampling, tokens, finish in (
            ({}, [5, 6, 7], FinishReason.STOP),
            ({"max_tokens": 9, "temperature": 0.3}, [5, 6, 7], FinishReason.STOP),
            ({"max_tokens": 3}, [5, 6, 7], FinishReason.LENGTH),
            ({"max_tokens": 2}, [5, 6], FinishReason.LENGTH),
            ({"max_tokens": 5, "ignore_eos": True}, [5, 6, 7, 5, 6], FinishReason.LENGTH),
        ):
            result = await driver.generate([5, 6, 7], **sampling)
            assert (result.tokens, result.last.finish) == (tokens, finish)
        assert driver.engine.metrics()["tritium_engine_output_tokens_total"] == 16


async def test_it_keeps_its_rate_for_all() -> None:
    """Every sequence gets so many tokens a second, however many there are."""
    async with echoing(tokens_per_second=100) as driver:
        began = time.perf_counter()
        numbers = [driver.submit([token, token], max_tokens=10, ignore_eos=True) for token in range(300)]
        for number in numbers:
            assert len((await driver.result(number)).tokens) == 10
        assert 0.08 < time.perf_counter() - began < 30  # one after the other they would take as long


async def test_abort_is_silent() -> None:
    """Nothing more is heard of a sequence that was dropped."""
    async with echoing() as driver:
        dropped = driver.submit([5], max_tokens=10**6, ignore_eos=True)
        await driver.until(lambda: len(driver.results[dropped].tokens) > 3)
        refused = driver.submit([])
        for number in (dropped, refused, 999):
            driver.engine.abort(number)
        heard = len(driver.results[dropped].tokens)
        assert (await driver.generate([6, 7])).tokens == [6, 7]
        assert len(driver.results[dropped].tokens) == heard
        assert driver.results[refused].deltas == []


async def test_bad_requests_fail_alone() -> None:
    """What is beyond the context, or beyond an echo, is told as the request's fault."""
    async with echoing(max_model_len=4) as driver:
        for tokens, sampling, message in (
            ([5] * 4, {}, "4 tokens and the context of this model is 4"),
            ([5], {"max_tokens": 0}, "max_tokens"),
            ([5], {"request_lora": "a"}, "no adapters"),
            ([5], {"structured_outputs": {"json_object": True}}, "to no form"),
        ):
            refused = (await driver.generate(tokens, **sampling)).last
            assert refused.invalid
            assert message in refused.error
        assert (await driver.generate([5, 6], max_tokens=9, ignore_eos=True)).tokens == [5, 6]


@pytest.mark.parametrize(
    ("role", "arguments", "message"),
    [
        (Role.AGGREGATED, {"tokens_per_second": -1}, "tokens_per_second"),
        (Role.PREFILL, {}, "no KV to move"),
    ],
)
async def test_what_cannot_be_does_not_start(role: Role, arguments: dict[str, Any], message: str) -> None:
    """A negative rate, a role in a disaggregated fleet."""
    with pytest.raises(InvalidArgument, match=message):
        async with echoing(role, **arguments):
            pass
