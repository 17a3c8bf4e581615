"""Where prompts are computed: what `router.disaggregation` is asked for a fleet, what transfers cost, what is counted.

    decide(prompt, route) -> PrefillPlan -> count(plan) ... transferred(from, to, tokens, seconds)

A transfer's time is what really passed between handing the KV's description to the worker that decodes and its first
token: queue, transfer and one step. The first between two workers introduces them to each other and is not learnt.
"""

from collections import Counter
from dataclasses import dataclass, replace

from tritium.cluster.fleet import GenerationRequest
from tritium.router.choice import Route
from tritium.router.disaggregation import (
    Decoder,
    PrefillDecision,
    Prefiller,
    Reason,
    Thresholds,
    settle,
    weigh,
)
from tritium.router.line import Fit, Line
from tritium.router.router import Prompt, Router

ENOUGH = 5
"""Transfers before they are judged, older ones counting less."""

KEEP = 0.95
"""How much of what was learnt of transfers stays when one more ends; about the last twenty count."""

AGGREGATED = "an aggregated worker computes its own"
"""Why the prompts of such a worker stay with it, in a mixed fleet."""

PROBE = 16
MOST_PROBE = 1024
"""Of so many prompts in a row that transfers were found too slow for, one is sent all the same, to learn anew; each
time that it was in vain the next one is twice as far, up to the second number."""


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """A decision, and the prefill worker that was asked for it, if one was."""

    decision: PrefillDecision
    route: Route | None = None


class PrefillDesk:
    """Decides for one fleet, learns of its transfers, and counts what was decided."""

    def __init__(self, thresholds: Thresholds) -> None:
        self.thresholds = thresholds
        self.decisions: Counter[tuple[str, Reason]] = Counter()
        """How often "remote" or "local" was decided for which reason."""
        self.moved_tokens = 0
        """Tokens of the prompts whose KV was moved."""
        self._transfers = Line()
        self._met: set[tuple[str, str]] = set()
        self._probe = PROBE
        self._detours = 0

    @property
    def transfer(self) -> Fit | None:
        """Return what a transfer costs: seconds each, and seconds a token; None while too few are known."""
        return self._transfers.fit() if self._transfers.count >= ENOUGH else None

    def decide(
        self, prompt: Prompt, route: Route, generating: Router, prefilling: Router, decoder: Decoder
    ) -> PrefillPlan:
        """Decide for a prompt that goes to the worker of `route`; `decoder` says what is known of that beforehand."""
        block_tokens = generating.block_tokens
        load = generating.load_of(route.worker)
        cached_tokens = min(prompt.tokens, route.overlap_blocks * block_tokens)
        known = Decoder(
            cached_tokens,
            load.active,
            _expected_s(load.prefill_blocks + route.compute_blocks, generating, prefilling),
            _compute_s(route.compute_blocks, generating, prefilling),
            decoder.stays,
            decoder.computes,
        )
        workers = len(prefilling)
        settled = settle(prompt.tokens, block_tokens, known, self.thresholds, prefill_workers=workers)
        if settled is not None and not (settled.remote and workers):
            return PrefillPlan(settled)
        there = prefilling.choose(prompt)
        if settled is not None:
            return PrefillPlan(settled, there)
        waiting = prefilling.load_of(there.worker).prefill_blocks
        transfer = self.transfer
        prefiller = Prefiller(
            waiting * block_tokens,
            _expected_s(waiting + there.compute_blocks, prefilling),
            transfer.at(prompt.tokens - cached_tokens) if transfer is not None else None,
        )
        decision = weigh(prompt.tokens, known, prefiller, self.thresholds)
        if decision.reason is Reason.DETOUR and self._detours >= self._probe - 1:
            because = f"{decision.because}; sent to learn how long transfers take now"
            decision = replace(decision, remote=True, reason=Reason.PROBE, because=because)
        return PrefillPlan(decision, there)

    def count(self, plan: PrefillPlan) -> None:
        """Count a decision that is acted upon."""
        self.decisions["remote" if plan.decision.remote else "local", plan.decision.reason] += 1
        if plan.decision.reason is Reason.DETOUR:
            self._detours += 1
        elif plan.decision.reason is Reason.PROBE:
            self._detours, self._probe = 0, min(2 * self._probe, MOST_PROBE)
        elif plan.decision.reason is Reason.UNCACHED:
            self._detours, self._probe = 0, PROBE

    def forget(self, worker: str) -> None:
        """Forget whom a worker has met: it comes back as another."""
        self._met = {pair for pair in self._met if worker not in pair}

    def transferred(self, source: str, target: str, tokens: int, seconds: float) -> None:
        """Learn what a transfer of so many tokens' KV from one worker to another took."""
        self.moved_tokens += tokens
        if (source, target) not in self._met:
            self._met.add((source, target))
            return
        self._transfers.fade(KEEP)
        self._transfers.add(tokens, seconds)


def stays_local(request: GenerationRequest) -> str:
    """Tell why a request's prompt cannot be computed by another worker than the one that decodes; "" where it can."""
    return "log probabilities of the prompt are asked for" if "prompt_logprobs" in request.sampling else ""


def _expected_s(blocks: int, *routers: Router) -> float | None:
    """Return how long so many blocks take by the first of the routers that knows.

    Where decode workers have computed too little, prefill workers speak for them: it is the same model, mostly on the
    same machines.
    """
    return next((known for router in routers if (known := router.pace.expected_s(blocks)) is not None), None)


def _compute_s(blocks: int, *routers: Router) -> float:
    """Return how much of a first token's time goes with the number of blocks; 0 where nothing is known."""
    return (_expected_s(blocks, *routers) or 0.0) - (_expected_s(0, *routers) or 0.0)
