"""The router of one pool of workers: it follows their caches and their load, and chooses among them.

    stored/removed/cleared -> index
    choose(prompt) -> Route -> lease(route) -> ... first token: prefilled(lease) ... end: release(lease)

`choose` changes nothing and may be asked at any time; `lease` books what was chosen.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from tritium.core.errors import InvalidArgument, NotFound, Unavailable
from tritium.router.blocks import hash_blocks, seed_of
from tritium.router.book import Lease, LoadBook, WorkerLoad
from tritium.router.choice import Candidate, Mode, Route, candidates, cheapest, cost, least_loaded, least_recent
from tritium.router.index import KvIndex


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the router sees it: its length, and the hashes of its full blocks."""

    tokens: int
    blocks: Sequence[int]


@dataclass(slots=True)
class Router:
    """The workers of one role. `rng` serves the mode `random` alone."""

    block_tokens: int
    mode: Mode = Mode.KV
    rng: random.Random = field(default_factory=random.Random)
    index: KvIndex = field(default_factory=KvIndex)
    book: LoadBook = field(default_factory=LoadBook)
    _loads: dict[str, WorkerLoad] = field(default_factory=dict)
    _free: list[int] = field(default_factory=list)

    @property
    def loads(self) -> Sequence[WorkerLoad]:
        """Return the workers that can be chosen."""
        return list(self._loads.values())

    def __len__(self) -> int:
        """Return how many workers can be chosen."""
        return len(self._loads)

    def add(self, worker: str, *, capacity_blocks: int, max_sequences: int) -> None:
        """Admit a worker with an empty cache."""
        number = self._free.pop() if self._free else len(self._loads)
        self._loads[worker] = WorkerLoad(worker, number, max_sequences)
        self.index.add(number, capacity_blocks)

    def remove(self, worker: str) -> None:
        """Forget a worker and what it held; leases on it may still be released."""
        load = self._loads.pop(worker, None)
        if load is not None:
            self.index.forget(load.number)
            self._free.append(load.number)

    def stored(
        self,
        worker: str,
        engine_hashes: Sequence[int],
        parent: int | None,
        token_ids: Sequence[int],
        *,
        salt: str = "",
        lora: str = "",
    ) -> None:
        """Note blocks that entered a worker's cache; `token_ids` cover them in order, after the block `parent`."""
        load = self._loads.get(worker)
        if load is None:
            return
        if parent is None:
            before = seed_of(salt=salt, lora=lora)
        else:
            known = self.index.parent(load.number, parent)
            if known is None:
                self.index.orphans += len(engine_hashes)
                return
            before = known
        blocks = hash_blocks(token_ids, self.block_tokens, before)
        if len(blocks) != len(engine_hashes):
            # Blocks of another size (a second cache group of a hybrid model) say nothing about this one.
            self.index.orphans += len(engine_hashes)
            return
        self.index.store(load.number, engine_hashes, blocks)

    def removed(self, worker: str, engine_hashes: Sequence[int]) -> None:
        """Note blocks that left a worker's cache."""
        if load := self._loads.get(worker):
            self.index.remove(load.number, engine_hashes)

    def cleared(self, worker: str) -> None:
        """Note that a worker dropped its cache."""
        if load := self._loads.get(worker):
            self.index.clear(load.number)

    def prompt(self, token_ids: Sequence[int], *, salt: str = "", lora: str = "") -> Prompt:
        """Hash a prompt's blocks.

        Raises:
            InvalidArgument: these are no token ids.
        """
        try:
            blocks = hash_blocks(token_ids, self.block_tokens, seed_of(salt=salt, lora=lora))
        except (OverflowError, TypeError):
            raise InvalidArgument("a prompt is a list of token ids, numbers from 0 to 4294967295") from None
        return Prompt(len(token_ids), blocks)

    def choose(self, prompt: Prompt, *, pinned: str = "") -> Route:
        """Choose the worker for a prompt.

        Raises:
            NotFound: the pinned worker is not among them.
            Unavailable: there is no worker.
        """
        if not self._loads:
            raise Unavailable("no worker is ready")
        overlaps = self._overlaps(prompt)
        loads = self.loads
        blocks = self._prompt_blocks(prompt)
        if pinned:
            load = self._loads.get(pinned)
            if load is None:
                raise NotFound(f"the model has no worker '{pinned}'", hint=f"one of {', '.join(sorted(self._loads))}")
            reason = "pinned"
        else:
            match self.mode:
                case Mode.KV:
                    load, reason = cheapest(loads, overlaps, blocks), ""
                case Mode.ROUND_ROBIN:
                    load, reason = least_recent(loads), "round robin"
                case Mode.LEAST_LOADED:
                    load, reason = least_loaded(loads), "least loaded"
                case Mode.RANDOM:
                    load, reason = self.rng.choice(loads), "random"
        overlap = overlaps.get(load.number, 0)
        because = f"overlap {overlap}/{blocks} blocks, {load.active} active"
        return Route(
            worker=load.name,
            overlap_blocks=overlap,
            prompt_blocks=blocks,
            cost=cost(load, prompt_blocks=blocks, overlap_blocks=overlap),
            because=f"{reason}; {because}" if reason else because,
        )

    def candidates(self, prompt: Prompt) -> list[Candidate]:
        """Return what the prompt would cost on every worker, cheapest first."""
        return candidates(self.loads, self._overlaps(prompt), self._prompt_blocks(prompt))

    def lease(self, route: Route, prompt: Prompt) -> Lease:
        """Book a chosen route; the lease must be released whatever happens."""
        return self.book.lease(
            self._loads[route.worker],
            prompt.blocks,
            prompt_blocks=route.prompt_blocks,
            overlap_blocks=route.overlap_blocks,
        )

    def _prompt_blocks(self, prompt: Prompt) -> int:
        return -(-prompt.tokens // self.block_tokens)

    def _overlaps(self, prompt: Prompt) -> dict[int, int]:
        overlaps = dict(self.index.match(prompt.blocks))
        for number, depth in self.book.expected(prompt.blocks).items():
            if depth > overlaps.get(number, 0):
                overlaps[number] = depth
        return overlaps
