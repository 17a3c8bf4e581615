"""Which sequences run in the next step, and with how many of their tokens: continuous batching over a block manager.

    WAITING --admit--> [ARRIVING] --> PREFILLING --> DECODING --end--> (gone)
       ^                    |             |             |
       +------- preempt ----+-------------+-------------+   blocks ran out: its tokens are kept and computed again

A step takes one token of every sequence that decodes, then chunks of prompts, up to the token budget. Lower `priority`
goes first, then the earlier arrival; the last of that order is preempted first. ARRIVING is a sequence whose KV is on
its way from another worker: it holds its blocks and takes part in no step.
"""

import bisect
from dataclasses import dataclass, field

from tritium.backends.mocker.blocks import BlockManager, Match
from tritium.backends.mocker.content import Content
from tritium.backends.mocker.journal import Block


@dataclass(slots=True, eq=False)
class Sequence:
    """One generation of `length` tokens, prompt and output; the first `computed` of them have KV in its blocks.

    Who gives it tokens makes it longer.
    """

    id: int
    content: Content
    length: int
    prompt_tokens: int
    priority: int = 0
    remote: bool = False
    """The KV of its prompt is computed already, on another worker."""
    arrival: int = 0
    computed: int = 0
    cached_tokens: int | None = None
    """Prompt tokens that were not computed here; None until it is admitted for the first time."""
    capacity: int = 0
    """How many tokens its blocks hold."""
    chain: list[Block] = field(default_factory=list)
    sealed: int = 0
    """How many blocks of `chain` it holds by name; the rest of its blocks are private."""

    @property
    def place(self) -> tuple[int, int]:
        """Return what orders sequences; the smallest runs first."""
        return self.priority, self.arrival


@dataclass(frozen=True, slots=True)
class Chunk:
    """Compute `tokens` tokens of a prompt from `start` on."""

    sequence: Sequence
    start: int
    tokens: int

    @property
    def completes(self) -> bool:
        """Tell whether the sequence gets its next token by this."""
        return self.start + self.tokens == self.sequence.length


@dataclass(frozen=True, slots=True)
class Admission:
    """A sequence that has just been given blocks, with those of its prompt that were found."""

    sequence: Sequence
    match: Match


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one step."""

    decodes: list[Sequence]
    chunks: list[Chunk]
    admitted: list[Admission]

    def __bool__(self) -> bool:
        """Tell whether there is anything to compute."""
        return bool(self.decodes or self.chunks)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may hold. `chunked`: a prompt may be computed in several steps, else only in one."""

    sequences: int
    step_tokens: int
    watermark_blocks: int = 0
    """Blocks that no newcomer may take: they are for the tokens of those that run."""
    chunked: bool = True


class Scheduler:
    """Continuous batching. A sequence must fit into the blocks alone, watermark left out; the caller sees to that."""

    def __init__(self, blocks: BlockManager, limits: Limits) -> None:
        self.blocks = blocks
        self.waiting: list[Sequence] = []
        self.arriving: list[Sequence] = []
        self.prefilling: list[Sequence] = []
        self.decoding: list[Sequence] = []
        self.preemptions = 0
        self._limits = limits
        self._arrivals = 0

    @property
    def running(self) -> int:
        """Return how many sequences hold blocks."""
        return len(self.decoding) + len(self.prefilling) + len(self.arriving)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self._arrivals += 1
        sequence.arrival = self._arrivals
        bisect.insort(self.waiting, sequence, key=_place)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence in whatever state it is, and free its blocks."""
        for among in (self.decoding, self.prefilling, self.arriving, self.waiting):
            if sequence in among:
                among.remove(sequence)
                break
        self._free(sequence)

    def arrived(self, sequence: Sequence) -> None:
        """Book that the KV of a prompt has come; the step that follows computes its last token again, for the next."""
        self.arriving.remove(sequence)
        sequence.computed = sequence.length - 1
        self._seal(sequence)
        bisect.insort(self.prefilling, sequence, key=_place)

    def plan(self) -> Plan:
        """Choose the work of the next step, admitting and preempting."""
        for sequence in tuple(self.decoding):
            # One without blocks was preempted by an earlier one a moment ago.
            if sequence.length > sequence.capacity > 0:
                self._grow(sequence)
        budget = self._limits.step_tokens - len(self.decoding)
        admitted = self._admit()
        chunks: list[Chunk] = []
        for sequence in self.prefilling:
            missing = sequence.length - sequence.computed
            if budget < 1 or (missing > budget and not self._limits.chunked and chunks):
                break
            count = min(missing, budget) if self._limits.chunked else missing
            chunks.append(Chunk(sequence, sequence.computed, count))
            budget -= count
        return Plan(self.decoding.copy(), chunks, admitted)

    def computed(self, chunk: Chunk) -> bool:
        """Book that a chunk is computed, and return whether its sequence decodes from now on."""
        sequence = chunk.sequence
        sequence.computed += chunk.tokens
        self._seal(sequence)
        if not chunk.completes:
            return False
        self.prefilling.remove(sequence)
        bisect.insort(self.decoding, sequence, key=_place)
        return True

    def stride(self) -> int:
        """Return how many steps in a row can do what a plan says that only decodes: until one needs a new block."""
        return min([sequence.capacity - sequence.length for sequence in self.decoding]) + 1

    def decoded(self, sequences: list[Sequence], steps: int = 1) -> None:
        """Book that decoding sequences have computed so many tokens; the last one they give is not appended yet."""
        for sequence in sequences:
            sequence.computed += steps
            if sequence.computed == sequence.capacity:
                self._seal(sequence)

    def _admit(self) -> list[Admission]:
        """Move waiting sequences to running while there is room for them, first come first."""
        admitted: list[Admission] = []
        while self.waiting and self.running < self._limits.sequences:
            sequence = self.waiting[0]
            match = self._find(sequence)
            new = self._blocks_for(sequence.length) - match.blocks
            reserve = self._limits.watermark_blocks if self.running else 0
            if not self.blocks.can_fit(sequence.chain, match, new + reserve):
                break
            self.blocks.lease(sequence.chain, match)
            self.blocks.reserve(new)
            sequence.sealed = match.blocks
            sequence.capacity = (match.blocks + new) * self.blocks.block_tokens
            sequence.computed = match.blocks * self.blocks.block_tokens
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.length - 1 if sequence.remote else sequence.computed
            del self.waiting[0]
            bisect.insort(self.arriving if sequence.remote else self.prefilling, sequence, key=_place)
            sequence.remote = False  # after a preemption there is nothing left to fetch
            admitted.append(Admission(sequence, match))
        return admitted

    def _find(self, sequence: Sequence) -> Match:
        """Find what is held of a sequence; at least one token is computed, for it gives the next."""
        sequence.content.extend(sequence.chain, sequence.length, self.blocks.block_tokens)
        return self.blocks.match(sequence.chain[: (sequence.length - 1) // self.blocks.block_tokens])

    def _grow(self, sequence: Sequence) -> None:
        """Give a decoding sequence the block for its next token, preempting the last in order, at last itself."""
        while not self.blocks.free:
            victim = max((*self.decoding, *self.prefilling, *self.arriving), key=_place)
            self._preempt(victim)
            if victim is sequence:
                return
        self.blocks.reserve(1)
        sequence.capacity += self.blocks.block_tokens

    def _preempt(self, sequence: Sequence) -> None:
        self.remove(sequence)
        self.preemptions += 1
        bisect.insort(self.waiting, sequence, key=_place)

    def _seal(self, sequence: Sequence) -> None:
        """Make those blocks known that are full."""
        full = sequence.computed // self.blocks.block_tokens
        if full <= sequence.sealed:
            return
        sequence.content.extend(sequence.chain, sequence.computed, self.blocks.block_tokens)
        for block in sequence.chain[sequence.sealed : full]:
            if not self.blocks.seal(block):
                return
            sequence.sealed += 1

    def _free(self, sequence: Sequence) -> None:
        private = sequence.capacity // self.blocks.block_tokens - sequence.sealed
        self.blocks.release(sequence.chain[: sequence.sealed], private)
        sequence.capacity = sequence.sealed = sequence.computed = 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.blocks.block_tokens)


def _place(sequence: Sequence) -> tuple[int, int]:
    return sequence.place
