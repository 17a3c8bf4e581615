"""What was routed and is not finished: the load as the router knows it, ahead of what any worker reports.

    lease ----first token----> prefilled ----last token, failure, cancel----> released
      prefill + decode blocks     decode blocks                                 nothing

A leased prompt also counts as about to be cached: its blocks are expected on its worker until the first token, by
which time the engine's own events have told of them. That keeps a burst with one prefix together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class WorkerLoad:
    """One worker's share of what is under way, in blocks. `last_routed` orders ties: the longest unused wins."""

    name: str
    number: int
    max_sequences: int
    active: int = 0
    prefill_blocks: int = 0
    decode_blocks: int = 0
    last_routed: int = 0


@dataclass(slots=True, eq=False)
class Lease:
    """One routed request's claim on a worker."""

    load: WorkerLoad
    blocks: Sequence[int]
    prefill_blocks: int
    decode_blocks: int
    prefilling: bool = True
    released: bool = False


@dataclass(slots=True)
class LoadBook:
    """The claims of all requests under way."""

    _expected: dict[int, list[Lease]] = field(default_factory=dict)
    """Leases still prefilling, by their first block."""
    _clock: int = 0

    def lease(self, load: WorkerLoad, blocks: Sequence[int], *, prompt_blocks: int, overlap_blocks: int) -> Lease:
        """Claim a worker for a prompt of `prompt_blocks`, of which it holds `overlap_blocks`; release it always."""
        lease = Lease(load, blocks, max(0, prompt_blocks - overlap_blocks), prompt_blocks)
        self._clock += 1
        load.last_routed = self._clock
        load.active += 1
        load.prefill_blocks += lease.prefill_blocks
        load.decode_blocks += lease.decode_blocks
        if blocks:
            self._expected.setdefault(blocks[0], []).append(lease)
        return lease

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
