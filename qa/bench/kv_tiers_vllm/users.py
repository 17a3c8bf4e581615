"""Many users, several turns each, on a device that holds the conversations of few: with the host tier and without.

Dynamo v0.1's measurement of offloading to host memory: 80 users, 10 turns, prompts of 1,000 tokens and answers of 100,
an 8B model. Here the model has 101 million parameters, the last prompt is 768 tokens long, an answer 8.

    round 1: every user in a random order, so many at once     round 2: every user goes on     ...
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from qa.bench.kv_tiers_vllm.engine import BLOCK, Answer, Engine, engine, prompt

ANSWER_TOKENS = 8
QUIET_S = 3.0
"""vLLM's processes spin for so long after their last request; the other engine must not be measured with them."""
_SOURCES = (("host", "host"), ("disk", "disk"), ("object", "external_unspecified"))
"""Our tiers by the names of vLLM's sources."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Who asks what."""

    users: int
    turns: int
    first_tokens: int = 192
    turn_tokens: int = 64
    """What a turn adds, the answer to the one before included."""
    at_once: int = 2

    @property
    def device_blocks(self) -> int:
        """Return a device's size that holds some eight whole conversations."""
        return 8 * (self.longest // BLOCK)

    @property
    def longest(self) -> int:
        """Return the tokens of the last prompt."""
        return self.first_tokens + (self.turns - 1) * self.turn_tokens


@dataclass(slots=True)
class Played:
    """What came of a workload."""

    first_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    vllm: dict[str, float] = field(default_factory=dict)
    """Tokens of prompts by where vLLM says they came from."""
    ours: dict[str, float] = field(default_factory=dict)
    """Tokens that the tiers say were loaded from them."""


async def play(folder: Path, tiers: str, workload: Workload) -> tuple[Played, Played]:
    """Play the workload on an engine without tiers and on one with them, turn by turn, each while the other rests.

    Both so have the same share of whatever else the machine does.
    """
    more = {"max_model_len": workload.longest + 2 * BLOCK, "max_num_batched_tokens": 2048}
    blocks = workload.device_blocks
    async with (
        engine(folder, "", device_blocks=blocks, more=more) as without,
        engine(folder, tiers, device_blocks=blocks, more=more) as with_tiers,
    ):
        players = [await _Player.warm(asked, workload) for asked in (without, with_tiers)]
        for _ in range(workload.turns):
            for player in players:
                await asyncio.sleep(QUIET_S)
                await player.turn()
        return await players[0].end(), await players[1].end()


class _Player:
    """The users of one engine; those of all engines ask the same as far as they are answered the same."""

    def __init__(self, asked: Engine, workload: Workload) -> None:
        self._asked = asked
        self._workload = workload
        self._rng = random.Random(5)
        self._talks = [prompt(self._rng, workload.first_tokens) for _ in range(workload.users)]
        self._before = _by_source(asked), _by_tier(asked)
        self._played = Played()

    @classmethod
    async def warm(cls, asked: Engine, workload: Workload) -> "_Player":
        """Return the users of an engine that has computed some prompts: how fast it is it knows after its first."""
        rng = random.Random(4)
        for length in (1, 2, 4, 8):
            await asked.ask(prompt(rng, length * workload.longest // 8))
        return cls(asked, workload)

    async def turn(self) -> None:
        """Have every user ask once, in a random order."""
        order = self._rng.sample(range(self._workload.users), self._workload.users)
        answers = await _round(self._asked, self._talks, order, self._workload.at_once)
        for user, answer in zip(order, answers, strict=True):
            _count(self._played, self._talks[user], answer)
            added = prompt(self._rng, self._workload.turn_tokens - len(answer.tokens))
            self._talks[user] = [*self._talks[user], *answer.tokens, *added]

    async def end(self) -> Played:
        """Return what came of it, with the counts since the warming."""
        await self._asked.saved()
        sources, tiers = _by_source(self._asked), _by_tier(self._asked)
        self._played.vllm = {name: count - self._before[0][name] for name, count in sources.items()}
        self._played.ours = {name: count - self._before[1][name] for name, count in tiers.items()}
        return self._played


async def _round(asked: Engine, talks: list[list[int]], order: list[int], at_once: int) -> list[Answer]:
    """Ask one turn of every user."""
    gate = asyncio.Semaphore(at_once)

    async def turn(user: int) -> Answer:
        async with gate:
            return await asked.ask(talks[user], ANSWER_TOKENS)

    return await asyncio.gather(*map(turn, order))


def _count(played: Played, tokens: list[int], answer: Answer) -> None:
    played.first_s.append(answer.first_s)
    played.prompt_tokens += len(tokens)
    played.cached_tokens += answer.cached_tokens


def _by_source(asked: Engine) -> dict[str, float]:
    sources = ("device", *(source for _, source in _SOURCES))
    return {source: asked.counter("vllm:prompt_tokens_cached_by_source_total", source=source) for source in sources}


def _by_tier(asked: Engine) -> dict[str, float]:
    return {tier: asked.counter("tritium_kv_tier_hits_total", tier=tier) * BLOCK for tier, _ in _SOURCES}


def report(workload: Workload, without: Played, with_tiers: Played) -> Iterator[str]:
    """Write the table and what it comes to."""
    yield "| | first token ms, median | p90 | prompt tokens | not computed | from the device | from the host |"
    yield "|---|---|---|---|---|---|---|"
    for name, played in (("no tiers", without), ("host tier", with_tiers)):
        tokens = played.prompt_tokens
        host = f"{played.vllm['host'] / tokens:.1%} by vLLM, {played.ours['host'] / tokens:.1%} by the tiers"
        yield (
            f"| {name} | {median(played.first_s) * 1e3:.0f} | {quantiles(played.first_s, n=10)[8] * 1e3:.0f} | {tokens}"
            f" | {played.cached_tokens / tokens:.1%} | {played.vllm['device'] / tokens:.1%} | {host} |"
        )
    ratio = median(with_tiers.first_s) / median(without.first_s)
    late = quantiles(with_tiers.first_s, n=10)[8] / quantiles(without.first_s, n=10)[8]
    yield f"with the host tier / without: median {ratio:.2f}, p90 {late:.2f}"
    blocks = workload.users * workload.longest // BLOCK
    yield f"device: {workload.device_blocks} blocks of {BLOCK} tokens; conversations at the end: {blocks}"
