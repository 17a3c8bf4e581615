"""What was routed and is not finished: the load as the router knows it, ahead of what any worker reports.

    lease ----first token----> prefilled ----last token, failure, cancel----> released
      prefill + decode blocks     decode blocks                                 nothing

A leased prompt also counts as about to be cached: its blocks are expected on its worker until the first token, by
which time the engine's own events have told of them. That keeps a burst with one prefix together.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field

MEMORY = 25
"""How many requests a worker `recent` looks back, roughly."""

BUSY = 4
"""Requests under way at each worker from which on a fleet counts as busy."""

SPREAD_FROM = 3
"""Requests under way at each worker from which on history counts in full: who is idle need not be spared."""

_MOST_WEIGHT = 1e12


@dataclass(slots=True, eq=False)
class WorkerLoad:
    """One worker's share of what is under way, in blocks. `last_routed` orders ties: the longest unused wins."""

    name: str
    number: int
    max_sequences: int
    capacity_blocks: int = 0
    held: Sized = ()
    """The blocks it holds; their number changes with it."""
    active: int = 0
    prefill_blocks: int = 0
    decode_blocks: int = 0
    last_routed: int = 0
    recent: float = 0.0
    """Blocks of the prompts it was given lately; older ones count less and less. In units of `history_weight`."""
    computed: float = 0.0
    """Those of them that it had to compute: what has turned its cache over. In the same units."""
    slowness: float = 1.0
    """How many times as long as the others it takes for the same."""
    missed: int = 0
    """Beats for which it has given no sign of life: it may be ill."""


@dataclass(slots=True, eq=False)
class Lease:
    """One routed request's claim on a worker."""

    load: WorkerLoad
    blocks: Sequence[int]
    prefill_blocks: int
    decode_blocks: int
    compute_blocks: int = 0
    """What its worker had to compute until its first token, what waited there before it included."""
    began_s: float = 0.0
    """When it was leased, by the caller's clock; 0 where that is not told."""
    prefilling: bool = True
    released: bool = False


@dataclass(slots=True)
class LoadBook:
    """The claims of all requests under way."""

    _expected: dict[int, list[Lease]] = field(default_factory=dict)
    """Leases still prefilling, by their first block."""
    _loads: list[WorkerLoad] = field(default_factory=list)
    _clock: int = 0
    _weight: float = 1.0
    """What a block counts now in `recent`; it grows, which is cheaper than to let all that is old shrink."""
    _recent: float = 0.0
    """The sum of all workers' `recent`."""
    active: int = 0
    """Requests under way, on all workers."""
    most_active: int = 0
    """How many the workers take together, before each is full."""

    @property
    def busyness(self) -> float:
        """Return how busy the workers are together: 0 where nothing is under way, 1 where each has `BUSY` requests."""
        return self._share_of(BUSY)

    @property
    def mean_recent(self) -> float:
        """Return the mean of the workers' `recent`."""
        return self._recent / max(1, len(self._loads))

    @property
    def history_weight(self) -> float:
        """Return what a block of `recent` or `computed` counts: one from `SPREAD_FROM` on, by the square of less."""
        return self._share_of(SPREAD_FROM) ** 2 / self._weight

    def _share_of(self, most: int) -> float:
        return min(1.0, self.active / (most * max(1, len(self._loads))))

    def admit(self, load: WorkerLoad) -> None:
        """Count a worker in, as one that was given what the others were: it is new, not neglected."""
        if self._loads:
            load.recent = self.mean_recent
            load.computed = sum(other.computed for other in self._loads) / len(self._loads)
        self._recent += load.recent
        self._loads.append(load)
        self.most_active += load.max_sequences

    def dismiss(self, load: WorkerLoad) -> None:
        """Count a worker out."""
        self._loads.remove(load)
        self._recent -= load.recent
        self.most_active -= load.max_sequences

    def lease(
        self,
        load: WorkerLoad,
        blocks: Sequence[int],
        *,
        prompt_blocks: int,
        compute_blocks: int,
        output_blocks: int = 0,
    ) -> Lease:
        """Claim a worker for a prompt, of which it has `compute_blocks` to compute; release it always.

        `output_blocks` is what the sequence is expected to grow by; on average over its life, half of that is there.
        """
        lease = Lease(load, blocks, max(0, compute_blocks), prompt_blocks + output_blocks // 2)
        lease.compute_blocks = load.prefill_blocks + lease.prefill_blocks
        self._remember(load, prompt_blocks, lease.prefill_blocks)
        self._clock += 1
        load.last_routed = self._clock
        load.active += 1
        self.active += 1
        load.prefill_blocks += lease.prefill_blocks
        load.decode_blocks += lease.decode_blocks
        if blocks:
            self._expected.setdefault(blocks[0], []).append(lease)
        return lease

    def _remember(self, load: WorkerLoad, prompt_blocks: int, computed_blocks: int) -> None:
        self._weight *= 1 + 1 / (MEMORY * max(1, len(self._loads)))
        load.recent += self._weight * prompt_blocks
        load.computed += self._weight * computed_blocks
        self._recent += self._weight * prompt_blocks
        if self._weight > _MOST_WEIGHT:
            for other in self._loads:
                other.recent /= self._weight
                other.computed /= self._weight
            self._recent = sum(other.recent for other in self._loads)
            self._weight = 1.0

    def prefilled(self, lease: Lease) -> None:
        """Give back the prefill share: the first token came. Harmless when repeated."""
        if not lease.prefilling:
            return
        lease.prefilling = False
        lease.load.prefill_blocks -= lease.prefill_blocks
        if lease.blocks:
            same = self._expected[lease.blocks[0]]
            same.remove(lease)
            if not same:
                del self._expected[lease.blocks[0]]

    def release(self, lease: Lease) -> None:
        """Give everything back. Harmless when repeated."""
        if lease.released:
            return
        lease.released = True
        self.prefilled(lease)
        lease.load.active -= 1
        self.active -= 1
        lease.load.decode_blocks -= lease.decode_blocks

    def expected(self, blocks: Sequence[int]) -> dict[int, int]:
        """Return, by worker number, how many first blocks of a prompt are being prefilled there just now."""
        found: dict[int, int] = {}
        if not blocks:
            return found
        for lease in self._expected.get(blocks[0], ()):
            depth = _common(lease.blocks, blocks)
            if depth > found.get(lease.load.number, 0):
                found[lease.load.number] = depth
        return found


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the length of the common beginning; chained hashes that agree at a place agree before it, so bisect."""
    low, high = 0, min(len(one), len(other))
    if one[high - 1] == other[high - 1]:
        return high
    while low < high:
        middle = (low + high) // 2
        if one[middle] == other[middle]:
            low = middle + 1
        else:
            high = middle
    return low
