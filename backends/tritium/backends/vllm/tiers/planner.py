"""The scheduler's side: which blocks a request fetches instead of computing them, and which are saved after a step.

a request comes --held and worth it--> its load is planned --> it waits --> loaded, or computed after all
a step computes blocks --complete, not held, not on their way--> saved, once
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritium.backends.vllm.tiers.counts import DECISIONS
from tritium.backends.vllm.tiers.holdings import Holdings
from tritium.backends.vllm.tiers.lineage import Lineage, names_of
from tritium.backends.vllm.tiers.pace import Pace
from tritium.backends.vllm.tiers.plan import Load, Report, StepPlan
from tritium.kv.advice import Advisor
from tritium.kv.block import Tier

if TYPE_CHECKING:
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

_log = logging.getLogger(__name__)

_PREFILL_SHARE = 0.9
"""The part of a step's tokens that must be prompt for its time to count as a prefill's."""


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a waiting request is to fetch: its blocks from `first` on, and from where each comes."""

    first: int
    tiers: list[Tier]
    because: str
    worth_s: float = float("inf")
    """How long computing what is fetched would take."""


class Planner:
    """Plans each step; one an engine."""

    def __init__(self, *, block_tokens: int, block_bytes: int, ranks: int, always: bool = False) -> None:
        self.block_tokens = block_tokens
        self._always = always
        self.holdings = Holdings(ranks)
        self.lineage = Lineage(self.holdings, block_tokens)
        self.advisor = Advisor(block_bytes, block_tokens)
        self.advised = dict.fromkeys(DECISIONS, 0)
        """How often it was decided to load, and not to, for prompts of which something was held."""
        self.pace = Pace()
        self._requests: dict[str, Request] = {}
        self._decisions: dict[str, _Decision] = {}
        self._fetched: set[str] = set()
        """Requests whose blocks were asked for once."""
        self._looked_at: dict[str, int] = {}
        """Up to which block each request was considered for saving."""
        self._saving: set[bytes] = set()
        self._loads: list[Load] = []

    @property
    def saving(self) -> bool:
        """Return whether saves are on their way: steps must go on, for their end to be heard of."""
        return bool(self._saving)

    def meet(self, request: "Request") -> None:
        """Follow a new request; not those with adapters, which are known by name only, and may change under it."""
        if request.lora_request is None:
            self._requests[request.request_id] = request

    def forget(self, request_id: str) -> None:
        """Stop following a request."""
        self._requests.pop(request_id, None)
        self._decisions.pop(request_id, None)
        self._fetched.discard(request_id)
        self.pace.forget(request_id)
        self._looked_at.pop(request_id, None)

    def wanted_tokens(self, request: "Request", computed_tokens: int) -> int:
        """Return how many tokens beyond those on the device are to be fetched."""
        # A load that failed is not tried again: a tier that is down would be asked for ever.
        if request.request_id not in self._requests or request.request_id in self._fetched:
            return 0
        first = computed_tokens // self.block_tokens
        decided = self._decisions.get(request.request_id)
        # vLLM asks again at every step until there is room; what was decided stands as long as the blocks do.
        last = (request.num_tokens - 1) // self.block_tokens
        blocks = names_of(request, first, last)
        if decided is None or decided.first != first or not self._still_held(blocks, decided):
            decided = self._decisions[request.request_id] = self._decide(request, first, blocks)
        return len(decided.tiers) * self.block_tokens

    def why(self, request_id: str) -> str:
        """Return in words what was decided for a request that waits; nothing where nothing was."""
        decided = self._decisions.get(request_id)
        return decided.because if decided else ""

    def allocated(self, request: "Request", block_ids: list[int], fetched_tokens: int) -> None:
        """Plan the load of a request whose blocks on the device are known now."""
        decided = self._decisions.pop(request.request_id, None)
        if decided is None or not fetched_tokens:
            return
        last = decided.first + fetched_tokens // self.block_tokens
        for place in range(decided.first, last):
            self.lineage.meet(request, place)
        self._fetched.add(request.request_id)
        self.pace.began(request.request_id, set(decided.tiers), decided.worth_s)
        self._loads.append(
            Load(request.request_id, names_of(request, decided.first, last), block_ids[decided.first : last])
        )

    def tiers_of(self, request: "Request", fetched_tokens: int) -> list[Tier]:
        """Return from which tier each block of a request's planned load comes."""
        load = next((load for load in reversed(self._loads) if load.request == request.request_id), None)
        return self.holdings.leading(load.names) if load and fetched_tokens else []

    def plan(self, step: "SchedulerOutput") -> StepPlan:
        """Return what the workers are to do beside this step."""
        plan = StepPlan(self._loads, tokens=step.total_num_scheduled_tokens)
        self._loads = []
        self.pace.stepped(step.num_scheduled_tokens)
        computed = {new.req_id: new.num_computed_tokens for new in step.scheduled_new_reqs}
        cached = step.scheduled_cached_reqs
        computed |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        prompt_tokens = 0
        for request_id, tokens in step.num_scheduled_tokens.items():
            prompt_tokens += tokens if tokens > 1 else 0
            if (request := self._requests.get(request_id)) is not None:
                self._save(plan, step, request, computed[request_id] + tokens)
        plan.prefill = prompt_tokens > _PREFILL_SHARE * plan.tokens and prompt_tokens >= self.block_tokens
        return plan

    def learn(self, report: Report) -> None:
        """Take in what the workers tell."""
        for rank in report.ranks:
            self.holdings.take(rank.rank, rank.changes)
            for loaded in rank.loaded:
                self.pace.loaded(loaded.request, loaded.seconds)
            if rank.rank:
                continue
            # The parts of a block come and go together, so that one rank speaks for all to the router.
            self.lineage.take(rank.changes)
            self._saving.difference_update(rank.settled)
            for block in rank.settled:
                self.lineage.forget(block)
            self.advisor.loads.update(rank.loads)
            if rank.prefill is not None:
                self.advisor.prefill = rank.prefill

    def _decide(self, request: "Request", first: int, blocks: Sequence[bytes]) -> _Decision:
        tiers = self.holdings.leading(blocks)
        if not tiers or self._always:
            return _Decision(first, tiers, "all that is held" if tiers else "nothing is held")
        decided = self._weigh(first, request.num_tokens - first * self.block_tokens, tiers)
        self.advised[DECISIONS[0 if decided.tiers else 1]] += 1
        _log.debug("%s: %s", request.request_id, decided.because)
        return decided

    def _weigh(self, first: int, tokens: int, tiers: list[Tier]) -> _Decision:
        """Return what of the blocks to fetch, for a prompt of which so many tokens are not on the device."""
        resting = next((place for place, tier in enumerate(tiers) if self.pace.rests(tier)), len(tiers))
        if not resting:
            return _Decision(first, [], f"{tiers[0]} was slower than computing a moment ago")
        advice = self.advisor.advise(tokens, tiers[:resting])
        handover_s = self.pace.handover_s
        if not advice.onboard or not self.advisor.prefill.known:
            return _Decision(first, tiers[: advice.blocks], advice.because)
        if advice.expected_s + handover_s >= advice.recompute_s:
            return _Decision(first, [], f"{advice.because}, and {handover_s * 1e3:.1f} ms until the engine goes on")
        rest_s = self.advisor.prefill.at(max(1, tokens - advice.blocks * self.block_tokens))
        return _Decision(first, tiers[: advice.blocks], advice.because, advice.recompute_s - rest_s)

    def _still_held(self, blocks: Sequence[bytes], decided: _Decision) -> bool:
        return all(block in self.holdings for block in blocks[: len(decided.tiers)])

    def _save(self, plan: StepPlan, step: "SchedulerOutput", request: "Request", computed_tokens: int) -> None:
        full = min(computed_tokens // self.block_tokens, len(request.block_hashes))
        first = self._looked_at.get(request.request_id, 0)
        if full <= first:
            return
        self._looked_at[request.request_id] = full
        state = step.kv_connector_block_state
        groups = state.get_block_ids(request.request_id) if state is not None else None
        if groups is None:
            return
        for place, block in enumerate(names_of(request, first, full), first):
            lies_at = groups[0][place]
            if block in self.holdings:
                self.lineage.meet(request, place)
            elif lies_at and block not in self._saving:  # vLLM's block 0 stands for one that was let go
                self.lineage.meet(request, place)
                self._saving.add(block)
                plan.saved_names.append(block)
                plan.saved_blocks.append(lies_at)
