"""NVIDIA Dynamo's cost function (1.6.1) as a policy, to compare with; nothing that serves uses it.

    cost = prefill_load_scale * max(0, prompt tokens computing there and ours, in blocks - overlap_credit * overlap)
         + blocks of sequences under way there, ours among them, equal ones counted once

The least wins, ties are drawn. A request's prompt tokens count until its first token, its blocks until its last.
Written from a description of lib/kv-router/src/scheduling/selector/default.rs, with its defaults: no decay, no
temperature, no queue, blocks of the answer not tracked.
"""

import random
from collections import Counter
from dataclasses import dataclass

from tritium.router.book import Lease
from tritium.router.choice import Route
from tritium.router.index import KvIndex
from tritium.router.router import Prompt, Router


@dataclass(frozen=True, slots=True)
class DynamoCost:
    """Its parameters. Disaggregated, prefill workers have the defaults and decode workers `DECODE`."""

    prefill_load_scale: float = 1.0
    overlap_credit: float = 1.0
    reuse: bool = True
    """Blocks that are under way there count once (assume_kv_reuse)."""
    track_prefill: bool = True


DECODE = DynamoCost(overlap_credit=0.0, reuse=False, track_prefill=False)


class DynamoRouter(Router):
    """A router that chooses by Dynamo's cost and keeps the books that this needs beside its own."""

    def __init__(self, block_tokens: int, cost: DynamoCost, rng: random.Random) -> None:
        super().__init__(block_tokens, rng=rng)
        self._cost = cost
        self._ties = rng
        self._under_way = KvIndex()
        self._users: dict[int, Counter[int]] = {}
        self._private: Counter[int] = Counter()
        """Blocks of sequences that no name is known for, by worker: the last one, that is not full."""
        self._computing: Counter[int] = Counter()
        self._claims: dict[Lease, tuple[int, int]] = {}
        """Tokens that a lease has computing, and its nameless blocks."""

    def add(self, worker: str, *, capacity_blocks: int, max_sequences: int) -> None:
        """Admit a worker with an empty cache."""
        super().add(worker, capacity_blocks=capacity_blocks, max_sequences=max_sequences)
        number = self.load_of(worker).number
        self._users[number] = Counter()
        self._under_way.add(number, 1 << 30)

    def choose(self, prompt: Prompt, *, pinned: str = "", session: str = "") -> Route:  # noqa: ARG002  (a router's)
        """Choose the worker of least cost."""
        cost, size = self._cost, self.block_tokens
        overlaps = self.index.match(prompt.blocks).device
        shared = self._under_way.match(prompt.blocks) if cost.reuse else {}
        blocks = -(-prompt.tokens // size)
        least, best, ties = float("inf"), self.loads[0], 0
        for load in self.loads:
            number = load.number
            prefill = (self._computing[number] + prompt.tokens) / size if cost.track_prefill else 0.0
            adjusted = max(0.0, prefill - cost.overlap_credit * overlaps.get(number, 0))
            decode = len(self._users[number]) + self._private[number] + blocks - shared.get(number, 0)
            total = cost.prefill_load_scale * adjusted + decode
            if total < least:
                least, best, ties = total, load, 1
            elif total == least:
                ties += 1
                if self._ties.randrange(ties) == 0:
                    best = load
        overlap = overlaps.get(best.number, 0)
        return Route(best.name, overlap, blocks, blocks - overlap, least, "Dynamo's cost")

    def lease(self, route: Route, prompt: Prompt, *, max_tokens: int = 0, now_s: float = 0.0) -> Lease:
        """Book a chosen route."""
        lease = super().lease(route, prompt, max_tokens=max_tokens, now_s=now_s)
        number = lease.load.number
        users = self._users[number]
        if self._cost.reuse:
            entered = [block for block in prompt.blocks if block not in users]
            self._under_way.store(number, entered, entered)
            users.update(prompt.blocks)
            private = route.prompt_blocks - len(prompt.blocks)
        else:
            private = route.prompt_blocks
        tokens = max(0, prompt.tokens - route.overlap_blocks * self.block_tokens)
        self._claims[lease] = (tokens, private)
        self._private[number] += private
        self._computing[number] += tokens
        return lease

    def prefilled(self, lease: Lease, *, now_s: float = 0.0) -> None:
        """Note the first token."""
        super().prefilled(lease, now_s=now_s)
        if claim := self._claims.get(lease):
            self._computing[lease.load.number] -= claim[0]
            self._claims[lease] = (0, claim[1])

    def release(self, lease: Lease) -> None:
        """Give a lease back."""
        super().release(lease)
        number = lease.load.number
        tokens, private = self._claims.pop(lease, (0, 0))
        self._computing[number] -= tokens
        self._private[number] -= private
        if not self._cost.reuse:
            return
        users = self._users[number]
        left = []
        for block in lease.blocks:
            users[block] -= 1
            if not users[block]:
                del users[block]
                left.append(block)
        self._under_way.remove(number, left)
