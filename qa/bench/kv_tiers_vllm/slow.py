"""Whether a slow tier makes the first token later than computing: held prompts against fresh ones, in turns.

learn:   fresh prompts, so that the engine knows how fast it computes and the store how fast the tier is
slow:    the tier takes so many times as long as computing from the start      held / fresh, length by length
turned:  a tier that was fast turns slow in the middle                         how many prompts pay for it
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from qa.bench.kv_tiers_vllm.engine import BLOCK, Engine, engine, prompt
from qa.bench.kv_tiers_vllm.model import CONTEXT
from qa.chaos.tier_faults import MODULE, Faults

from tritium.backends.vllm.tiers.setting import connector_config

DEVICE_BLOCKS = CONTEXT // BLOCK + 1
LATE = 1.1
"""What is promised: a first token at most so many times as late as computing would have it."""


@dataclass(slots=True)
class Slow:
    """Seconds to the first token by the length of the prompt, while the tier is slow."""

    block_s: float = 0.0
    fresh: dict[int, list[float]] = field(default_factory=dict)
    held: dict[int, list[float]] = field(default_factory=dict)
    fetched: int = 0
    """Held prompts of which something was fetched."""
    turned: list[float] = field(default_factory=list)
    """Held prompts after the tier turned slow: how many times as late as computing, one after the other."""


async def measure(folder: Path, scratch: Path, lengths: Sequence[int], rounds: int, times: float) -> Slow:
    """Measure a disk tier that takes `times` as long as computing does."""
    faults = Faults(scratch / "faults")
    config = connector_config(f"disk=3GiB:{scratch / 'disk'}", "llama", 0)
    config["kv_connector_module_path"] = MODULE
    config["kv_connector_extra_config"]["faults"] = str(scratch / "faults")
    rng = random.Random(3)
    slow = Slow()
    async with engine(folder, "", device_blocks=DEVICE_BLOCKS, more={"kv_transfer_config": config}) as asked:
        computed = [await asked.ask(prompt(rng, 1024)) for _ in range(4)]
        slow.block_s = times * median(answer.first_s for answer in computed) / (1024 // BLOCK)
        held = [[prompt(rng, length) for length in lengths] for _ in range(rounds)]
        for tokens in (tokens for one in held for tokens in one):
            await asked.ask(tokens)
        await asked.ask(prompt(rng, CONTEXT - 4 * BLOCK))
        await asked.saved()
        for tokens in held[0]:  # a tier that is fast yet: how fast is learnt from loads, too
            await asked.ask(tokens)
        faults.set("slow_s", str(slow.block_s))
        await _turn(asked, rng, slow, held[1])
        for one in held[2:]:
            await _round(asked, rng, slow, one)
    return slow


async def _turn(asked: Engine, rng: random.Random, slow: Slow, held: Sequence[list[int]]) -> None:
    """Ask held prompts and fresh ones in turns, right after the tier turned slow."""
    for tokens in held:
        fresh = await asked.ask(prompt(rng, len(tokens)))
        answer = await asked.ask(tokens)
        slow.turned.append(answer.first_s / fresh.first_s)


async def _round(asked: Engine, rng: random.Random, slow: Slow, held: Sequence[list[int]]) -> None:
    for tokens in rng.sample(held, len(held)):
        # A fresh prompt before and one after: a machine that is busy meanwhile slows them alike.
        before = await asked.ask(prompt(rng, len(tokens)))
        answer = await asked.ask(tokens)
        after = await asked.ask(prompt(rng, len(tokens)))
        slow.fresh.setdefault(len(tokens), []).append((before.first_s + after.first_s) / 2)
        slow.held.setdefault(len(tokens), []).append(answer.first_s)
        slow.fetched += answer.cached_tokens > 0


def rows(times: float, slow: Slow) -> list[str]:
    """Write the lines of a table: medians in milliseconds."""
    lines = []
    for length in sorted(slow.held):
        held, fresh = median(slow.held[length]), median(slow.fresh[length])
        ratio = median(a / b for a, b in zip(slow.held[length], slow.fresh[length], strict=True))
        lines.append(f"| {times:g} | {length} | {fresh * 1e3:.0f} | {held * 1e3:.0f} | {ratio:.2f} |")
    return lines
