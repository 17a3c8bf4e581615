"""One fleet of real vLLM with tiers: asked prompts, timed to their first token, and its counters read.

Prompts are lists of random tokens, so that none begins like another unless it is meant to.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa.bench.kv_tiers_vllm.model import CONTEXT, VOCABULARY

from tritium.backends.engine import Delta
from tritium.cluster.fleet import GenerationRequest
from tritium.cluster.local import LocalFleet, start_fleet
from tritium.cluster.spec import parse_fleet
from tritium.core.errors import InferenceError

BLOCK = 32
PATIENCE_S = 300.0
DTYPE = "bfloat16"
SPEC = "workers=1,hold_s=600,silent_s=0,stuck_s=0,canary_s=0"
"""One worker that is given all the time it takes, however busy the machine is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a prompt was answered, how much of it was not computed, and when the first token came."""

    tokens: list[int]
    cached_tokens: int
    first_s: float
    because: str


class _Sink:
    """Gathers one generation."""

    def __init__(self) -> None:
        self.began_s = time.perf_counter()
        self.first_s = 0.0
        self.tokens: list[int] = []
        self.cached_tokens = 0
        self.error: InferenceError | None = None
        self.over = asyncio.Event()

    def on_delta(self, delta: Delta) -> None:
        """Take tokens."""
        if delta.token_ids and not self.first_s:
            self.first_s = time.perf_counter() - self.began_s
        if delta.cached_tokens is not None:
            self.cached_tokens = delta.cached_tokens
        self.tokens += delta.token_ids
        if delta.finish:
            self.over.set()

    def on_failure(self, error: InferenceError) -> None:
        """Keep the error for who waits."""
        self.error = error
        self.over.set()


class Engine:
    """A fleet that is asked and read."""

    def __init__(self, fleet: LocalFleet) -> None:
        self.fleet = fleet

    async def ask(self, tokens: Sequence[int], answer_tokens: int = 4, *, salt: str = "") -> Answer:
        """Ask a prompt.

        Raises:
            InferenceError: it was not answered.
        """
        sink = _Sink()
        sampling = {"max_tokens": answer_tokens, "temperature": 0.0, "ignore_eos": True}
        handle = self.fleet.generate(GenerationRequest(list(tokens), sampling, cache_salt=salt), sink)
        await asyncio.wait_for(sink.over.wait(), PATIENCE_S)
        if sink.error is not None:
            raise sink.error
        because = handle.route.because if handle.route else ""
        return Answer(sink.tokens, sink.cached_tokens, sink.first_s, because)

    def counter(self, family: str, **labels: str) -> float:
        """Return the sum of a metric of vLLM's, or of the tiers, over the workers."""
        return sum(
            sample.value
            for sample in self.fleet.own_metrics()
            if sample.family == family and labels.items() <= sample.labels.items()
        )

    async def until(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Wait for what workers tell in their own time."""
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110  counters are read, they call nobody
                await asyncio.sleep(0.02)

    async def saved(self) -> None:
        """Wait until what was computed has come to the tiers: nothing is saved for half a second."""
        before = -1.0
        while (now := self.counter("tritium_kv_tier_saved_bytes_total")) != before:
            before = now
            await asyncio.sleep(1.1)  # counts are told once a second


@asynccontextmanager
async def engine(
    folder: Path, tiers: str, *, device_blocks: int, more: Mapping[str, Any] | None = None
) -> AsyncIterator[Engine]:
    """Start vLLM with these tiers (none where empty) and a device cache of so many blocks; end it afterwards."""
    arguments: dict[str, Any] = {
        "dtype": DTYPE,
        "max_model_len": CONTEXT,
        "block_size": BLOCK,
        "num_gpu_blocks_override": device_blocks,
        "max_num_batched_tokens": CONTEXT,
        "max_num_seqs": 8,
        **(more or {}),
    }
    if tiers:
        arguments["kv_tiers"] = tiers
    fleet = await start_fleet(parse_fleet(SPEC), name="llama", engine="vllm", folder=folder, arguments=arguments)
    try:
        yield Engine(fleet)
    finally:
        await fleet.close()


def prompt(rng: random.Random, tokens: int) -> list[int]:
    """Return a prompt that begins like no other."""
    return rng.choices(range(16, VOCABULARY), k=tokens)
