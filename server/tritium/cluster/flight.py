"""One generation on its way through a fleet.

    HELD --a worker is ready--> PREFILLING --KV is there--> GENERATING --finish--> OVER
      ^            |                                          ^   |
      |            +--------- aggregated, or stays local -----+   |
      +---------------------- worker lost, can go on -------------+      (any state --cancel, failure--> OVER)

Whatever happens, the leases are given back once, and the sink hears an end once.
"""

import sys
from enum import StrEnum
from typing import Any

from tritium.backends.engine import Delta, FinishReason
from tritium.cluster.fleet import GenerationRequest, RouteReport, TokenSink
from tritium.cluster.timings import Watch
from tritium.router.book import Lease
from tritium.router.router import Prompt

MOST_MOVES = 3
"""How many workers may be lost under one request before it is the suspect."""

_STATEFUL = ("structured_outputs", "guided_decoding", "presence_penalty", "frequency_penalty")
"""Sampling fields that look back at the output: an engine handed that output as a prompt would sample otherwise."""


class Stage(StrEnum):
    """Where a generation stands."""

    HELD = "held"
    PREFILLING = "prefilling"
    GENERATING = "generating"
    OVER = "over"


class Flight:
    """A generation's state; `cluster.flights` moves it from stage to stage."""

    __slots__ = (
        "cached_tokens",
        "handed_s",
        "id",
        "lease",
        "moved_tokens",
        "moves",
        "prefill_id",
        "prefill_lease",
        "prefill_worker",
        "prompt",
        "report",
        "request",
        "sink",
        "stage",
        "tokens",
        "transferred",
        "watch",
        "worker",
    )

    def __init__(self, request: GenerationRequest, sink: TokenSink, watch: Watch) -> None:
        self.request = request
        self.sink = sink
        self.watch = watch
        self.stage = Stage.HELD
        self.prompt: Prompt | None = None
        self.report: RouteReport | None = None
        self.tokens: list[int] = []
        """What was generated so far, on all workers."""
        self.worker = ""
        self.id = 0
        self.lease: Lease | None = None
        self.prefill_id = 0
        self.prefill_worker = ""
        self.prefill_lease: Lease | None = None
        self.cached_tokens: int | None = None
        """Prompt tokens nobody had to compute; what the client is told once."""
        self.transferred = False
        """The generating worker was handed KV from elsewhere."""
        self.moved_tokens = 0
        """Of so many tokens, and when, until its first token: what transfers cost is learnt from it."""
        self.handed_s = 0.0
        self.moves = 0

    def prompt_tokens(self) -> list[int]:
        """Return what a worker must be given: the prompt, and what was generated before."""
        return self.request.token_ids + self.tokens if self.tokens else self.request.token_ids

    def most_tokens(self) -> int:
        """Return how many tokens are left to generate at most."""
        most = self.request.sampling.get("max_tokens")
        return most - len(self.tokens) if isinstance(most, int) else sys.maxsize

    def sampling(self) -> dict[str, Any]:
        """Return the sampling fields for what is left to generate."""
        if not self.tokens:
            return self.request.sampling
        done = len(self.tokens)
        left = dict(self.request.sampling)
        left["max_tokens"] = left["max_tokens"] - done
        if "min_tokens" in left:
            left["min_tokens"] = max(0, left["min_tokens"] - done)
        left.pop("prompt_logprobs", None)
        return left

    def cannot_move(self) -> str:
        """Tell why the generation cannot go on elsewhere; empty where it can."""
        if self.moves >= MOST_MOVES:
            return f"it has lost {self.moves} workers already"
        if self.request.worker:
            return "it was pinned to that worker"
        if not self.tokens:
            return ""
        sampling = self.request.sampling
        if not isinstance(sampling.get("max_tokens"), int):
            return "without max_tokens there is no telling how much is left"
        if stateful := [name for name in _STATEFUL if sampling.get(name)]:
            return f"{stateful[0]} depends on what was generated before"
        return ""

    def account(self, delta: Delta) -> None:
        """Note what a delta adds, and let it tell the client of cached tokens once, and truly."""
        self.tokens += delta.token_ids
        if delta.cached_tokens is not None:
            if self.cached_tokens is None:
                self.cached_tokens = delta.cached_tokens
            elif self.moves:
                delta.cached_tokens = None
            else:
                delta.cached_tokens = self.cached_tokens


def prefill_sampling() -> dict[str, Any]:
    """Return the sampling of a prefill: one token, thrown away, that no stop condition may come before."""
    return {"max_tokens": 1, "temperature": 0.0, "ignore_eos": True}


def failed(delta: Delta) -> bool:
    """Tell whether a delta ends its sequence in failure."""
    return delta.finish == FinishReason.ERROR
