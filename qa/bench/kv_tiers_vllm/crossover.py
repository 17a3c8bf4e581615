"""From which length on a prompt is answered sooner from a tier than by computing it: one engine a tier.

sweep:  every length computed, then asked again while the device holds it
sweep:  the next ones push those out of the device
then:   the prompts of all sweeps but the last once more, now from the tier
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from qa.bench.kv_tiers_vllm.engine import BLOCK, Engine, engine, prompt
from qa.bench.kv_tiers_vllm.model import CONTEXT

DEVICE_BLOCKS = CONTEXT // BLOCK + 1
"""What vLLM needs for its longest context: the least it takes."""


@dataclass(slots=True)
class Lengths:
    """Seconds to the first token by the length of the prompt."""

    computed: dict[int, list[float]] = field(default_factory=dict)
    device: dict[int, list[float]] = field(default_factory=dict)
    tier: dict[int, list[float]] = field(default_factory=dict)
    rounded: int = 0
    """Answers from the device that were not the computed ones: a prompt's end computed alone is rounded otherwise."""
    different: int = 0
    """Answers from the tier that were not those from the device."""
    cached: dict[int, int] = field(default_factory=dict)
    """The fewest tokens that came from the tier."""


async def measure(folder: Path, tiers: str, lengths: Sequence[int], rounds: int, seed: int) -> Lengths:
    """Measure one tier."""
    rng = random.Random(seed)
    times = Lengths()
    async with engine(folder, f"{tiers},fetch=always", device_blocks=DEVICE_BLOCKS) as asked:
        await asked.ask(prompt(rng, max(lengths)))
        orders = [rng.sample(lengths, len(lengths)) for _ in range(rounds + 1)]
        sweeps = [{length: prompt(rng, length) for length in order} for order in orders]
        told = [await _compute(asked, sweep, times) for sweep in sweeps]
        await asked.saved()
        for sweep, answers in zip(sweeps[:-1], told, strict=False):
            await _fetch(asked, sweep, answers, times)
    return times


async def _compute(asked: Engine, sweep: dict[int, list[int]], times: Lengths) -> dict[int, list[int]]:
    told = {}
    for length, tokens in sweep.items():
        first = await asked.ask(tokens)
        times.computed.setdefault(length, []).append(first.first_s)
        again = await asked.ask(tokens)
        times.device.setdefault(length, []).append(again.first_s)
        times.rounded += again.tokens != first.tokens
        told[length] = again.tokens
    return told


async def _fetch(asked: Engine, sweep: dict[int, list[int]], told: dict[int, list[int]], times: Lengths) -> None:
    for length, tokens in sweep.items():
        answer = await asked.ask(tokens)
        times.tier.setdefault(length, []).append(answer.first_s)
        times.different += answer.tokens != told[length]
        times.cached[length] = min(times.cached.get(length, length), answer.cached_tokens)


def crossover(times: Lengths) -> int | None:
    """Return the length from which on the tier is sooner for this and every longer one that was measured."""
    sooner = None
    for length in sorted(times.tier, reverse=True):
        if median(times.tier[length]) > median(times.computed[length]):
            break
        sooner = length
    return sooner


def rows(name: str, times: Lengths) -> list[str]:
    """Write the lines of a table: medians in milliseconds."""
    lines = []
    for length in sorted(times.computed):
        computed, device, tier = (median(of[length]) * 1e3 for of in (times.computed, times.device, times.tier))
        lines.append(
            f"| {name} | {length} | {computed:.0f} | {device:.0f} | {tier:.0f} | {tier / computed:.2f}"
            f" | {times.cached[length]} |"
        )
    return lines
