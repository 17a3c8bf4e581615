"""The choice of a worker: what each would cost, and the words for it.

    cost = uncached prompt + WAIT_SHARE * prefill before it + DECODE_SHARE * decoding beside it + crowding

All in blocks. Work of our own making weighs most, for it delays everybody and pushes other prefixes out of the cache:
a worker that holds a long prefix keeps its requests until it carries clearly more than the others, and a burst on
one prefix still spills over. Equal costs go to the worker with fewest requests, then to the one not used for longest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tritium.router.book import WorkerLoad

WAIT_SHARE = 0.5
"""What a block that others still have to prefill costs, in blocks to prefill ourselves."""

DECODE_SHARE = 0.1
"""What a block under decode costs. Both shares were chosen by the simulation in qa/unit/router; see docs/routing.md."""

CROWD_SHARE = 0.5
"""What every sequence beyond a worker's maximum costs, as a share of the prompt: it would wait in the engine."""


class Mode(StrEnum):
    """How a fleet picks workers."""

    KV = "kv"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LEAST_LOADED = "least_loaded"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one worker would have cost."""

    worker: str
    overlap_blocks: int
    active: int
    cost: float


@dataclass(frozen=True, slots=True)
class Route:
    """Where a prompt goes, and why.

    `overlap_blocks` are those of the prompt's `prompt_blocks` that the worker holds, or is about to.
    """

    worker: str
    overlap_blocks: int
    prompt_blocks: int
    cost: float
    because: str


def cost(load: WorkerLoad, *, prompt_blocks: int, overlap_blocks: int) -> float:
    """Return what the prompt would cost on a worker, in blocks to prefill; lower wins."""
    crowd = load.active - load.max_sequences + 1
    return (
        max(0, prompt_blocks - overlap_blocks)
        + WAIT_SHARE * load.prefill_blocks
        + DECODE_SHARE * load.decode_blocks
        + (CROWD_SHARE * prompt_blocks * crowd if crowd > 0 else 0.0)
    )


def candidates(loads: Sequence[WorkerLoad], overlaps: Mapping[int, int], prompt_blocks: int) -> list[Candidate]:
    """Return what every worker would cost, cheapest first."""
    found = [
        Candidate(
            load.name,
            overlap := overlaps.get(load.number, 0),
            load.active,
            cost(load, prompt_blocks=prompt_blocks, overlap_blocks=overlap),
        )
        for load in loads
    ]
    return sorted(found, key=lambda candidate: candidate.cost)


def cheapest(loads: Sequence[WorkerLoad], overlaps: Mapping[int, int], prompt_blocks: int) -> WorkerLoad:
    """Return the worker of least cost; ties go to fewest requests, then to the one not used for longest."""
    best = loads[0]
    best_rank: tuple[float, int, int] | None = None
    least = float("inf")
    # The formula of `cost`, written out: this loop runs for every worker of every request.
    for load in loads:
        price = (
            prompt_blocks
            - overlaps.get(load.number, 0)
            + WAIT_SHARE * load.prefill_blocks
            + DECODE_SHARE * load.decode_blocks
        )
        if load.active >= load.max_sequences:
            price += CROWD_SHARE * prompt_blocks * (load.active - load.max_sequences + 1)
        if price > least:
            continue
        rank = (price, load.active, load.last_routed)
        if best_rank is None or rank < best_rank:
            best, best_rank, least = load, rank, price
    return best


def least_loaded(loads: Sequence[WorkerLoad]) -> WorkerLoad:
    """Return the worker with fewest requests under way; ties go to the one not used for longest."""
    return min(loads, key=lambda load: (load.active, load.last_routed))


def least_recent(loads: Sequence[WorkerLoad]) -> WorkerLoad:
    """Return the worker not used for longest."""
    return min(loads, key=lambda load: load.last_routed)
