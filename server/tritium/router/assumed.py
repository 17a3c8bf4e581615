"""What engines without events are assumed to hold: what was routed to them, for so long.

    routed -> assumed held -> routed again: renewed -> not for `lifetime_s`: forgotten

The assumption is made at the first token, when the prompt has been computed, and never beyond what the worker can hold.
"""

from collections import OrderedDict
from collections.abc import Sequence

from tritium.router.index import KvIndex


class AssumedBlocks:
    """Blocks put into an index because a worker was given them, each with its end; clocks are the caller's."""

    def __init__(self, index: KvIndex, lifetime_s: float) -> None:
        self._index = index
        self._lifetime_s = lifetime_s
        self._ends: dict[int, OrderedDict[int, float]] = {}

    def add(self, worker: int) -> None:
        """Begin with a worker that holds nothing."""
        self._ends[worker] = OrderedDict()

    def forget(self, worker: int) -> None:
        """Stop following a worker; the index forgets it by itself."""
        del self._ends[worker]

    def note(self, worker: int, blocks: Sequence[int], now_s: float) -> None:
        """Assume that the worker holds these blocks from now on."""
        ends = self._ends[worker]
        end_s = now_s + self._lifetime_s
        # Beginnings go last into the order, as an engine keeps them longest.
        for block in reversed(blocks):
            ends[block] = end_s
            ends.move_to_end(block)
        while len(ends) > self._index.capacity_of(worker):
            self._index.remove(worker, (ends.popitem(last=False)[0],))
        self._index.store(worker, blocks, blocks)

    def expire(self, now_s: float) -> None:
        """Forget what has come to its end."""
        for worker, ends in self._ends.items():
            over: list[int] = []
            for block, end_s in ends.items():
                if end_s > now_s:
                    break
                over.append(block)
            for block in over:
                del ends[block]
            self._index.remove(worker, over)
