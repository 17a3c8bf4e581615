"""`python -m qa.bench.placement TRACE`: how much the choice of a worker can keep in caches, whatever it costs.

Requests come one after the other, workers are nothing but caches that drop what was not used for longest, and nobody
waits. Compared are one pooled cache of their size, all workers alike, and workers set apart for prompts whose beginning
was seen before, so that those that come once wash out only the others. Means over slices of the trace.
"""

import argparse
import json
import statistics
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

WORKERS = 4
SEEN_SHARE = 0.3
"""A prompt goes to the workers set apart when so much of it was seen before, cached or not."""

Prompts = Sequence[Sequence[int]]


class Cache:
    """A cache of so many blocks, as engines keep them: the ends of prompts go before their beginnings."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self.computed = 0

    def held(self, prompt: Sequence[int]) -> int:
        """Return how many leading blocks it holds."""
        return next((place for place, block in enumerate(prompt) if block not in self._blocks), len(prompt))

    def take(self, prompt: Sequence[int]) -> None:
        """Compute a prompt."""
        self.computed += len(prompt) - self.held(prompt)
        for block in reversed(prompt):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The share of blocks that were cached, and how unevenly the others were computed."""

    hits: float
    spread: float


def pooled(prompts: Prompts, blocks: int) -> Outcome:
    """Serve from one cache as large as all."""
    return placed(prompts, WORKERS * blocks, apart=0, workers=1)


def placed(prompts: Prompts, blocks: int, *, apart: int, workers: int = WORKERS) -> Outcome:
    """Serve from the holder of a prompt, or the worker of its kind that has computed least."""
    caches = [Cache(blocks) for _ in range(workers)]
    seen = Cache(1 << 40)
    hits = 0
    for prompt in prompts:
        before = seen.held(prompt)
        seen.take(prompt)
        best = max(caches, key=lambda cache: cache.held(prompt))
        depth = best.held(prompt)
        if depth < 0.5 * before or depth <= 0.1 * len(prompt):
            again = before >= SEEN_SHARE * len(prompt)
            kind = (caches[:apart] if again else caches[apart:]) if apart else caches
            best = min(kind, key=lambda cache: cache.computed)
        hits += best.held(prompt)
        best.take(prompt)
    worked = [cache.computed for cache in caches]
    return Outcome(hits / sum(map(len, prompts)), max(worked) / max(1, min(worked)))


def main() -> None:
    """Print a table: a row a size of cache and way to place."""
    parser = argparse.ArgumentParser(prog="python -m qa.bench.placement", description=__doc__)
    parser.add_argument("trace", type=Path, help="of Mooncake's format")
    parser.add_argument("--requests", type=int, default=3000, help="in a slice")
    parser.add_argument("--slices", type=int, default=3)
    arguments = parser.parse_args()
    with arguments.trace.open() as lines:
        prompts = [json.loads(line)["hash_ids"] for line in lines]
    step = (len(prompts) - arguments.requests) // max(1, arguments.slices - 1)
    slices = [prompts[n * step : n * step + arguments.requests] for n in range(arguments.slices)]
    ways: dict[str, Callable[[Prompts, int], Outcome]] = {"one pooled cache": pooled}
    ways["all alike"] = partial(placed, apart=0)
    ways |= {f"{apart} of {WORKERS} set apart": partial(placed, apart=apart) for apart in range(1, WORKERS)}
    print("| blocks a worker | placement | hits | most / least computed |\n|---|---|---|---|")
    for blocks in (512, 2048):
        for name, serve in ways.items():
            runs = [serve(part, blocks) for part in slices]
            hits, spread = (statistics.fmean(getattr(run, name) for run in runs) for name in ("hits", "spread"))
            print(f"| {blocks} | {name} | {hits:.3f} | {spread:.2f} |", flush=True)


if __name__ == "__main__":
    main()
