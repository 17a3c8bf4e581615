"""The choice of a worker: what each would cost, and the words for it.

    cost = slowness * ( own      blocks to compute, and those to fetch from lower tiers at a share
                      + eviction blocks it pushes out of a full cache, times the share of blocks that is asked for again
                      + waiting  blocks others routed there still have to prefill, at a share: the less, the busier all
                      + decoding DECODE_SHARE * blocks decoding there
                      + holding  HOLD_SHARE * blocks to compute, for every request under way that they hold up
                      + history  blocks it had to compute lately and those it was given beyond its part, at shares,
                                 while all are busy
                      + crowding CROWD_SHARE * the prompt, for every sequence beyond its most
                      + silence  SILENT_SHARE * the prompt, for every beat without a sign of life )

All in blocks. While a fleet has time, to wait at a worker costs nearly as much as to compute. In a busy one work of our
own making weighs most, for it delays everybody and pushes other prefixes out of the cache: a worker that holds a long
prefix keeps its requests until it carries clearly more than the others. Equal costs go to the worker with fewest
requests, then to the one not used for longest.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from xxhash import xxh3_64_intdigest

from tritium.router.book import WorkerLoad
from tritium.router.tiers import Depths, Held

HOST_SHARE = 0.2
DISK_SHARE = 0.6
OBJECT_SHARE = 0.8
"""What a block costs that is fetched from host memory, disk or an object store, in blocks to compute. Estimates."""

WAIT_SHARE = 0.9
BUSY_WAIT_SHARE = 0.05
"""What a block that others still have to prefill costs, in blocks to prefill ourselves: while nobody has anything to
do, and where all are busy (`LoadBook.busyness`)."""

DECODE_SHARE = 0.02
"""What a block under decode costs."""

HOLD_SHARE = 0.003
"""What a block to compute costs for every request under way there, whose tokens come later for it: so long prompts keep
away from many short answers."""

COMPUTED_SHARE = 0.04
"""What a block costs that the worker had to compute lately: so all caches turn over at one pace, and none is washed out
while another keeps what nobody asks for."""

FAIR_OF_MEAN = 1.15
EXCESS_SHARE = 0.2
"""What a block costs that the worker was given lately, cached or not, beyond so many times the mean of all: so none
stays home to more prefixes than the others. Within that band prompts go where they are cached.
These shares were chosen by simulation; see "The study" in docs/router.md."""

CROWD_SHARE = 0.5
"""What every sequence beyond a worker's maximum costs, as a share of the prompt: it would wait in the engine."""

SILENT_SHARE = 2.0
"""What every beat costs for which a worker has given no sign of life, as a share of the prompt: if it is lost in the
end, the prompt is computed anew elsewhere, after the beats that are left. More than any prefix saves, and yet not all
work of a fleet is thrown on the others because one worker was held up."""

MOST_OF_MEAN = 1.25
"""A session stays with its worker up to so many times the mean of requests under way, and goes to its second then."""


class Mode(StrEnum):
    """How a fleet picks workers."""

    KV = "kv"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    LEAST_LOADED = "least_loaded"
    POWER_OF_TWO = "power_of_two"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Price:
    """What a prompt would cost on a worker, part by part, in blocks to prefill."""

    own: float
    eviction: float
    waiting: float
    decoding: float
    holding: float
    history: float
    crowding: float
    silence: float
    slowness: float

    @property
    def cost(self) -> float:
        """Return the sum; lower wins."""
        spent = self.own + self.eviction + self.waiting + self.decoding + self.holding
        return (spent + self.history + self.crowding + self.silence) * self.slowness

    @property
    def told(self) -> str:
        """Return every part by its name, in one line."""
        return (
            f"own={self.own:.4g} eviction={self.eviction:.4g} waiting={self.waiting:.4g}"
            f" decoding={self.decoding:.4g} holding={self.holding:.4g} history={self.history:.4g}"
            f" crowding={self.crowding:.4g} silence={self.silence:.4g} slowness={self.slowness:.4g}"
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one worker would have cost."""

    worker: str
    overlap_blocks: int
    active: int
    cost: float
    held: Held
    price: Price


@dataclass(frozen=True, slots=True)
class Route:
    """Where a prompt goes, and why.

    `overlap_blocks` are those of the prompt's `prompt_blocks` that the worker holds in any tier, or is about to;
    `compute_blocks` what is left for it to do, fetching counted at its share.
    """

    worker: str
    overlap_blocks: int
    prompt_blocks: int
    compute_blocks: int
    cost: float
    because: str
    price: Price | None = None
    """The parts of the cost; None from a policy that has others."""


@dataclass(frozen=True, slots=True)
class Question:
    """What every worker is asked: how long the prompt is, and what each is spared of it.

    `saved` are blocks that need not be computed, by the worker's number, less what fetching them costs. `reuse` is the
    share of blocks lately routed that were cached: how likely a block that is pushed out would have been asked for.
    """

    prompt_blocks: int
    saved: Mapping[int, float]
    history_weight: float
    fair: float
    """What a worker may have been given lately without a price, in units of `history_weight`."""
    reuse: float
    wait_share: float


def wait_share(busyness: float) -> float:
    """Return what a block costs that waits at a worker, by how busy all workers are together (0 to 1)."""
    return WAIT_SHARE + (BUSY_WAIT_SHARE - WAIT_SHARE) * busyness


def savings(depths: Depths) -> Mapping[int, float]:
    """Return how many blocks of computing each worker is spared by what it holds, less what fetching them costs."""
    if not depths.host and not depths.disk and not depths.object:
        return depths.device
    saved: dict[int, float] = dict(depths.device)
    reached = dict(depths.device)
    for tier, share in ((depths.host, HOST_SHARE), (depths.disk, DISK_SHARE), (depths.object, OBJECT_SHARE)):
        for worker, depth in tier.items():
            saved[worker] = saved.get(worker, 0) + (1 - share) * (depth - reached.get(worker, 0))
            reached[worker] = depth
    return saved


def price(load: WorkerLoad, asked: Question) -> Price:
    """Return what a prompt would cost on one worker, part by part."""
    crowd = load.active - load.max_sequences + 1
    own = max(0, asked.prompt_blocks - asked.saved.get(load.number, 0))
    over = own + load.prefill_blocks + len(load.held) - load.capacity_blocks
    return Price(
        own=own,
        eviction=asked.reuse * min(own, over) if over > 0 else 0.0,
        waiting=asked.wait_share * load.prefill_blocks,
        decoding=DECODE_SHARE * load.decode_blocks,
        holding=HOLD_SHARE * own * load.active,
        history=asked.history_weight
        * (COMPUTED_SHARE * load.computed + EXCESS_SHARE * max(0.0, load.recent - asked.fair)),
        crowding=CROWD_SHARE * asked.prompt_blocks * crowd if crowd > 0 else 0.0,
        silence=SILENT_SHARE * asked.prompt_blocks * load.missed,
        slowness=load.slowness,
    )


def cheapest(loads: Collection[WorkerLoad], asked: Question) -> WorkerLoad:
    """Return the worker of least cost; ties go to fewest requests, then to the one not used for longest."""
    best = next(iter(loads))
    best_rank: tuple[float, int, int] | None = None
    least = float("inf")
    blocks = asked.prompt_blocks
    saved = asked.saved.get
    reuse = asked.reuse
    wait, decode, hold, fair = asked.wait_share, DECODE_SHARE, HOLD_SHARE, asked.fair
    turned, excess = COMPUTED_SHARE * asked.history_weight, EXCESS_SHARE * asked.history_weight
    # The formula of `price`, written out: this loop runs for every worker of every request. Who has more to compute
    # than another costs in all need not be priced.
    for load in loads:
        cost = own = blocks - saved(load.number, 0)
        if cost > least and load.slowness >= 1:
            continue
        over = own + load.prefill_blocks + len(load.held) - load.capacity_blocks
        if over > 0:
            cost += reuse * min(own, over)
        cost += wait * load.prefill_blocks + decode * load.decode_blocks + hold * own * load.active
        cost += turned * load.computed
        if load.recent > fair:
            cost += excess * (load.recent - fair)
        if load.active >= load.max_sequences:
            cost += CROWD_SHARE * blocks * (load.active - load.max_sequences + 1)
        if load.missed:
            cost += SILENT_SHARE * blocks * load.missed
        cost *= load.slowness
        if cost > least:
            continue
        rank = (cost, load.active, load.last_routed)
        if best_rank is None or rank < best_rank:
            best, best_rank, least = load, rank, cost
    return best


def least_loaded(loads: Sequence[WorkerLoad]) -> WorkerLoad:
    """Return the worker with fewest requests under way; ties go to the one not used for longest."""
    return min(loads, key=lambda load: (load.active, load.last_routed))


def least_recent(loads: Sequence[WorkerLoad]) -> WorkerLoad:
    """Return the worker not used for longest."""
    return min(loads, key=lambda load: load.last_routed)


def better_of_two(loads: Sequence[WorkerLoad], rng: random.Random) -> WorkerLoad:
    """Return the less loaded of two drawn at random."""
    return least_loaded(rng.sample(loads, min(2, len(loads))))


def home_of(session: str, loads: Sequence[WorkerLoad]) -> WorkerLoad:
    """Return the worker where a session lives.

    Each session has an order of its own among the workers, which the coming and going of others does not change; the
    first of them that carries no more than MOST_OF_MEAN of the mean takes it.
    """
    most = MOST_OF_MEAN * (sum(load.active for load in loads) + 1) / len(loads)
    name = session.encode()
    order = sorted(loads, key=lambda load: xxh3_64_intdigest(load.name.encode(), xxh3_64_intdigest(name)))
    return next(load for load in order if load.active < max(1, most))
