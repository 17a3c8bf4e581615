"""The router of one pool of workers: it follows their caches and their load, and chooses among them.

    entered/removed/cleared -> index
    choose(prompt) -> Route -> lease(route) -> ... first token: prefilled(lease) ... end: release(lease)

`choose` changes nothing and may be asked at any time; `lease` books what was chosen. The clock is the caller's.
"""

import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tritium.core.errors import InvalidArgument, NotFound, Unavailable
from tritium.router.admission import saturated
from tritium.router.assumed import AssumedBlocks
from tritium.router.blocks import hash_blocks, seed_of
from tritium.router.book import Lease, LoadBook, WorkerLoad
from tritium.router.choice import (
    FAIR_OF_MEAN,
    Candidate,
    Mode,
    Question,
    Route,
    better_of_two,
    cheapest,
    home_of,
    least_loaded,
    least_recent,
    price,
    savings,
    wait_share,
)
from tritium.router.dump import Dump
from tritium.router.speed import Pace
from tritium.router.tiers import Depths, Tier, TieredIndex

_SCATTER = 1 << 30

_KEEP_REUSE = 0.99
"""How much of the learnt share of blocks that are asked for again stays when one more prompt is routed."""

_KEEP_OUTPUT = 0.98
"""How much of the learnt length of answers stays when one more ends."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the router sees it: its length, and the hashes of its full blocks."""

    tokens: int
    blocks: Sequence[int]


class Router:
    """The workers of one role. `rng` serves the modes that draw lots.

    With `scatter`, workers that are equal are tried in an order of this router's own, beside others that choose too.
    With `assumed_s`, a worker is taken to hold what was routed to it, for so long: for engines that tell no events.
    A worker with `most_prefill_tokens` to compute is full; 0: only its sequences count.
    """

    def __init__(
        self,
        block_tokens: int,
        mode: Mode = Mode.KV,
        *,
        rng: random.Random | None = None,
        index: TieredIndex | None = None,
        assumed_s: float = 0.0,
        most_prefill_tokens: int = 0,
        scatter: bool = False,
    ) -> None:
        self.block_tokens = block_tokens
        self._most_prefill_blocks = -(-most_prefill_tokens // block_tokens)
        self.mode = mode
        self.index = index or TieredIndex()
        self.book = LoadBook()
        self.pace = Pace()
        self._rng = rng or random.Random()  # noqa: S311  it draws lots, not keys
        self._assumed = AssumedBlocks(self.index.device, assumed_s) if assumed_s else None
        self._output_tokens = 0.0
        self._reused_blocks = 0.0
        self._routed_blocks = 0.0
        self._scatter = scatter
        self._loads: dict[str, WorkerLoad] = {}
        self._free: list[int] = []

    @property
    def loads(self) -> Sequence[WorkerLoad]:
        """Return the workers that can be chosen."""
        return list(self._loads.values())

    def __len__(self) -> int:
        """Return how many workers can be chosen."""
        return len(self._loads)

    def load_of(self, worker: str) -> WorkerLoad:
        """Return what a worker that can be chosen has to do."""
        return self._loads[worker]

    def add(self, worker: str, *, capacity_blocks: int, max_sequences: int) -> None:
        """Admit a worker with an empty cache; `max_sequences` 0: nobody knows how many it takes."""
        number = self._free.pop() if self._free else len(self._loads)
        self.index.add(number, capacity_blocks)
        load = self._loads[worker] = WorkerLoad(
            worker,
            number,
            max_sequences or sys.maxsize,
            self.index.device.capacity_of(number),
            self.index.device.held(number),
        )
        if self._scatter:
            load.last_routed = -self._rng.randrange(_SCATTER)
        self.book.admit(load)
        if self._assumed is not None:
            self._assumed.add(number)

    def remove(self, worker: str) -> None:
        """Forget a worker and what it held; leases on it may still be released."""
        load = self._loads.pop(worker, None)
        if load is not None:
            self.book.dismiss(load)
            self.pace.forget(worker)
            self.index.forget(load.number)
            if self._assumed is not None:
                self._assumed.forget(load.number)
            self._free.append(load.number)

    def suspect(self, worker: str, beats: int) -> None:
        """Note for how many beats a worker has given no sign of life; 0: it is well (again)."""
        if load := self._loads.get(worker):
            load.missed = beats

    def entered(self, worker: str, blocks: Sequence[int], *, tier: Tier = Tier.DEVICE) -> None:
        """Note blocks that entered a tier of a worker's cache, by our hashes."""
        if load := self._loads.get(worker):
            self.index.tiers[tier].store(load.number, blocks, blocks)

    def removed(self, worker: str, blocks: Sequence[int], *, tier: Tier = Tier.DEVICE) -> None:
        """Note blocks that left a tier of a worker's cache, by our hashes."""
        if load := self._loads.get(worker):
            self.index.tiers[tier].remove(load.number, blocks)

    def cleared(self, worker: str) -> None:
        """Note that a worker dropped its cache."""
        if load := self._loads.get(worker):
            self.index.clear(load.number)

    def restore(self, worker: str, dump: Dump) -> None:
        """Make a dump all that is known of a worker's cache.

        Raises:
            NotFound: there is no such worker.
            InvalidArgument: the dump has blocks of another size.
        """
        load = self._loads.get(worker)
        if load is None:
            raise NotFound(f"there is no worker '{worker}'", hint=f"one of {', '.join(sorted(self._loads))}")
        if dump.block_tokens != self.block_tokens:
            raise InvalidArgument(f"the dump has blocks of {dump.block_tokens} tokens, here are {self.block_tokens}")
        for tier, index in self.index.tiers.items():
            index.restore(load.number, dump.tiers.get(tier, {}))

    def prompt(
        self, token_ids: Sequence[int], *, salt: str = "", lora: str = "", media: Mapping[int, str] | None = None
    ) -> Prompt:
        """Hash a prompt's blocks; `media` as in `hash_blocks`.

        Raises:
            InvalidArgument: these are no token ids.
        """
        try:
            blocks = hash_blocks(token_ids, self.block_tokens, seed_of(salt=salt, lora=lora), media=media)
        except (OverflowError, TypeError):
            raise InvalidArgument("a prompt is a list of token ids, numbers from 0 to 4294967295") from None
        return Prompt(len(token_ids), blocks)

    def choose(self, prompt: Prompt, *, pinned: str = "", session: str = "") -> Route:
        """Choose the worker for a prompt; `session` counts in the mode of that name, which is `kv` without one.

        Raises:
            NotFound: the pinned worker is not among them.
            Unavailable: there is no worker.
        """
        if not self._loads:
            raise Unavailable("no worker is ready")
        depths = self._depths(prompt)
        asked = self._question(prompt, depths)
        load, reason = self._pick(asked, pinned, session)
        held = depths.at(load.number)
        overlap = held.blocks
        because = f"overlap {overlap}/{asked.prompt_blocks} blocks"
        if held.object:
            because += f" ({held.host} on host, {held.disk} on disk, {held.object} in objects)"
        elif held.host or held.disk:
            because += f" ({held.host} on host, {held.disk} on disk)"
        because += f", {load.active} active"
        if load.slowness != 1.0:
            because += f", slowness {load.slowness:.2g}"
        if load.missed:
            because += f", silent for {load.missed} beats"
        parts = price(load, asked)
        return Route(
            worker=load.name,
            overlap_blocks=overlap,
            prompt_blocks=asked.prompt_blocks,
            compute_blocks=round(parts.own),
            cost=parts.cost,
            because=f"{reason}; {because}" if reason else because,
            price=parts,
        )

    def candidates(self, prompt: Prompt) -> list[Candidate]:
        """Return what the prompt would cost on every worker, cheapest first."""
        depths = self._depths(prompt)
        asked = self._question(prompt, depths)
        found = []
        for load in self._loads.values():
            held, parts = depths.at(load.number), price(load, asked)
            found.append(Candidate(load.name, held.blocks, load.active, parts.cost, held, parts))
        return sorted(found, key=lambda candidate: candidate.cost)

    @property
    def full(self) -> bool:
        """Tell whether no worker may be given one more request."""
        book = self.book
        if book.active < book.most_active and not self._most_prefill_blocks:
            return False
        return saturated(self._loads.values(), self._most_prefill_blocks)

    def expected_blocks(self, prompt_tokens: int, max_tokens: int) -> int:
        """Return how many blocks a request comes to: its prompt, and an answer as `lease` expects it."""
        return -(-(prompt_tokens + int(min(max_tokens, self._output_tokens))) // self.block_tokens)

    def lease(self, route: Route, prompt: Prompt, *, max_tokens: int = 0, now_s: float = 0.0) -> Lease:
        """Book a chosen route; the lease must be released whatever happens.

        The answer is expected to be as long as others were lately, but not longer than `max_tokens`; 0: no telling.
        """
        self.index.touch(prompt.blocks[: route.overlap_blocks])
        self._reused_blocks = _KEEP_REUSE * self._reused_blocks + route.overlap_blocks
        self._routed_blocks = _KEEP_REUSE * self._routed_blocks + route.prompt_blocks
        lease = self.book.lease(
            self._loads[route.worker],
            prompt.blocks,
            prompt_blocks=route.prompt_blocks,
            compute_blocks=route.compute_blocks,
            output_blocks=int(min(max_tokens, self._output_tokens)) // self.block_tokens,
        )
        lease.began_s = now_s
        return lease

    def share(
        self,
        worker: str,
        blocks: Sequence[int],
        *,
        prompt_blocks: int,
        compute_blocks: int,
        max_tokens: int = 0,
        now_s: float = 0.0,
    ) -> Lease | None:
        """Book what another router has sent to a worker, as `lease` does; None where the worker is not known here."""
        load = self._loads.get(worker)
        if load is None:
            return None
        output_blocks = int(min(max_tokens, self._output_tokens)) // self.block_tokens
        lease = self.book.lease(
            load, blocks, prompt_blocks=prompt_blocks, compute_blocks=compute_blocks, output_blocks=output_blocks
        )
        lease.began_s = now_s
        return lease

    def prefilled(self, lease: Lease, *, now_s: float = 0.0) -> None:
        """Note the first token: its worker has the prompt's blocks, and took so long. Harmless when repeated."""
        if not lease.prefilling:
            return
        self.book.prefilled(lease)
        load = lease.load
        if self._loads.get(load.name) is not load:
            return
        if now_s and lease.began_s:
            round_over = self.pace.learn(load.name, lease.compute_blocks, now_s - lease.began_s)
            for judged in self._loads.values() if round_over else (load,):
                judged.slowness = self.pace.slowness(judged.name)
        if self._assumed is not None:
            self._assumed.expire(now_s)
            self._assumed.note(load.number, lease.blocks, now_s)

    def release(self, lease: Lease) -> None:
        """Give a lease back. Harmless when repeated."""
        self.book.release(lease)

    def answered(self, output_tokens: int) -> None:
        """Learn how long an answer became that came to its end."""
        before = self._output_tokens or output_tokens
        self._output_tokens = _KEEP_OUTPUT * before + (1 - _KEEP_OUTPUT) * output_tokens

    def _pick(self, asked: Question, pinned: str, session: str) -> tuple[WorkerLoad, str]:
        """Return the worker and what beside its cost made it so."""
        if pinned:
            load = self._loads.get(pinned)
            if load is None:
                raise NotFound(f"the model has no worker '{pinned}'", hint=f"one of {', '.join(sorted(self._loads))}")
            return load, "pinned"
        if self.mode is Mode.KV or (self.mode is Mode.SESSION and not session):
            return cheapest(self._loads.values(), asked), ""
        every = list(self._loads.values())
        # The other modes know no costs: they pass over who may be ill, unless all may.
        loads = [load for load in every if not load.missed] or every
        match self.mode:
            case Mode.SESSION:
                return home_of(session, loads), "session"
            case Mode.ROUND_ROBIN:
                return least_recent(loads), "round robin"
            case Mode.LEAST_LOADED:
                return least_loaded(loads), "least loaded"
            case Mode.POWER_OF_TWO:
                return better_of_two(loads, self._rng), "power of two"
            case _:
                return self._rng.choice(loads), "random"

    def _question(self, prompt: Prompt, depths: Depths) -> Question:
        blocks = -(-prompt.tokens // self.block_tokens)
        reuse = self._reused_blocks / self._routed_blocks if self._routed_blocks else 0.0
        book = self.book
        fair = FAIR_OF_MEAN * book.mean_recent
        return Question(blocks, savings(depths), book.history_weight, fair, reuse, wait_share(book.busyness))

    def _depths(self, prompt: Prompt) -> Depths:
        depths = self.index.match(prompt.blocks)
        for number, depth in self.book.expected(prompt.blocks).items():
            if depth > depths.device.get(number, 0):
                depths.device[number] = depth
        return depths
