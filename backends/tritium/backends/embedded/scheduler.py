"""Which sequences run in the next step, and with how many of their tokens.

    WAITING --admit--> RUNNING --finish--> (gone)
       ^                  |
       +-----preempt------+     blocks ran out: its tokens are kept and computed again

The earliest arrival goes first, in every state; `priority` (lower first) comes before arrival. A step takes one
token of every sequence that decodes, then chunks of prompts, up to its token budget, so that neither starves.
"""

import bisect
from dataclasses import dataclass, field
from typing import Any

from tritium.backends.embedded.cache import BlockKey, BlockPool, extend_keys
from tritium.backends.embedded.sampling import Sampler, Sampling


@dataclass(slots=True, eq=False)
class Sequence:
    """One generation: `tokens` are prompt and output, the first `computed` of them have keys and values in `blocks`."""

    id: int
    tokens: list[int]
    prompt_tokens: int
    sampling: Sampling
    sampler: Sampler
    priority: int = 0
    salt: str = ""
    arrival: int = 0
    transfer: dict[str, Any] | None = None
    keep: bool = False
    computed: int = 0
    cached_tokens: int | None = None
    blocks: list[int] = field(default_factory=list)
    keys: list[BlockKey] = field(default_factory=list)
    on_hold: bool = False
    """Its blocks are being filled by another worker; it takes part in no step."""

    @property
    def place(self) -> tuple[int, int]:
        """Return what orders sequences; the smallest runs first."""
        return self.priority, self.arrival

    @property
    def missing(self) -> int:
        """Return how many tokens must be computed before the next one can be picked."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class Work:
    """Compute `count` tokens of a sequence, from its `computed` on."""

    sequence: Sequence
    count: int

    @property
    def completes(self) -> bool:
        """Tell whether the step yields the sequence's next token."""
        return self.count == self.sequence.missing


class Scheduler:
    """Continuous batching over one block pool. The pool must hold one sequence of the longest context."""

    def __init__(self, pool: BlockPool, *, max_sequences: int, step_tokens: int) -> None:
        self.pool = pool
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._max_sequences = max_sequences
        self._step_tokens = max(step_tokens, max_sequences)
        self._arrivals = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        bisect.insort(self.waiting, sequence, key=_place)

    def admit(self) -> list[Sequence]:
        """Move waiting sequences, first come first, to running while there is room; return those moved.

        An admitted sequence has blocks for all its tokens, those of a known prefix with their content.
        """
        admitted = []
        while self.waiting and len(self.running) < self._max_sequences:
            sequence = self.waiting[0]
            extend_keys(sequence.keys, sequence.tokens, self.pool.block_tokens, sequence.salt)
            # At least one token is computed: its logits are the answer.
            shareable = (len(sequence.tokens) - 1) // self.pool.block_tokens
            matched = self.pool.match(sequence.keys[:shareable])
            new = self._blocks_for(len(sequence.tokens)) - len(matched)
            # A block in hand for each running one, lest the newcomer be thrown out in the next step.
            if not self.pool.can_fit(matched, new + len(self.running)):
                break
            self.pool.lease(matched)
            sequence.blocks = matched + self.pool.reserve(new)
            sequence.computed = len(matched) * self.pool.block_tokens
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.computed
            del self.waiting[0]
            bisect.insort(self.running, sequence, key=_place)
            admitted.append(sequence)
        return admitted

    def plan(self) -> list[Work]:
        """Choose the work of the next step: decodes first, in the order of arrival, then chunks of prompts."""
        budget = self._step_tokens
        works: list[Work] = []
        for sequence in [each for each in self.running if each.missing == 1]:
            # One without blocks was preempted by an earlier one a moment ago.
            if sequence.on_hold or not sequence.blocks or not self._grow(sequence):
                continue
            works.append(Work(sequence, 1))
            budget -= 1
        for sequence in self.running:
            if sequence.missing > 1 and not sequence.on_hold and budget > 0:
                works.append(Work(sequence, min(sequence.missing, budget)))
                budget -= works[-1].count
        return works

    def advance(self, work: Work) -> None:
        """Book that the work is done: full blocks become known to others."""
        sequence = work.sequence
        sequence.computed += work.count
        self.seal(sequence, sequence.computed - work.count)

    def seal(self, sequence: Sequence, before: int) -> None:
        """Make the blocks known that became full as `computed` went from `before` to its value."""
        size = self.pool.block_tokens
        first, last = before // size, sequence.computed // size
        if last > first:
            extend_keys(sequence.keys, sequence.tokens, size, sequence.salt)
            self.pool.seal(sequence.blocks[first:last], sequence.keys[first:last])

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence in whatever state it is, and give its blocks back."""
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        self._free(sequence)

    def requeue(self, sequence: Sequence) -> None:
        """Put a running sequence back among those that wait; what was computed is lost, its tokens are not."""
        self.running.remove(sequence)
        self._free(sequence)
        bisect.insort(self.waiting, sequence, key=_place)

    def _grow(self, sequence: Sequence) -> bool:
        """Give a decoding sequence the block its next token needs, preempting later arrivals, at last itself."""
        while len(sequence.blocks) < self._blocks_for(len(sequence.tokens)):
            if self.pool.free:
                sequence.blocks += self.pool.reserve(1)
                continue
            victim = next(each for each in reversed(self.running) if not each.on_hold)
            self.requeue(victim)
            self.preemptions += 1
            if victim is sequence:
                return False
        return True

    def _free(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = 0
        sequence.on_hold = False

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.pool.block_tokens)


def _place(sequence: Sequence) -> tuple[int, int]:
    return sequence.place
