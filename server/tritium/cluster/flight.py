"""One generation on its way through a fleet.

    HELD --a worker is ready--> PREFILLING --KV is there--> GENERATING --finish--> OVER
      ^            |                                          ^   |
      |            +--------- aggregated, or stays local -----+   |
      +---------------------- worker lost, can go on -------------+      (any state --cancel, failure--> OVER)

Whatever happens, the leases are given back once, and the sink hears an end once.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tritium.backends.engine import Delta, FinishReason, Generate
from tritium.cluster.continuation import obstacle, sampling_left
from tritium.cluster.fleet import GenerationRequest, RouteReport, TokenSink
from tritium.cluster.timings import Watch
from tritium.router.book import Lease
from tritium.router.media import MediaItem
from tritium.router.router import Prompt


@dataclass(slots=True)
class FlightCounters:
    """What is counted of generations."""

    requests: int = 0
    moved: int = 0
    continued: int = 0
    overdue: int = 0
    lost: int = 0
    prompt_blocks: int = 0
    overlap_blocks: int = 0
    remote_prefills: int = 0
    prefill_fallbacks: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


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
        "lost_worker",
        "media",
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
        "told",
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
        self.media: Sequence[MediaItem] | None = None
        """What its media are for the router, once that was asked."""
        self.report: RouteReport | None = None
        self.tokens: list[int] = []
        """What was generated so far, on all workers."""
        self.told = False
        """The client has the first delta, with what that says of the prompt."""
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
        self.lost_worker = ""
        """The last worker that was lost under it."""

    def prompt_tokens(self) -> list[int]:
        """Return what a worker must be given: the prompt, and what was generated before."""
        return self.request.token_ids + self.tokens if self.tokens else self.request.token_ids

    def media_items(self, tokens: Mapping[str, int]) -> Sequence[MediaItem]:
        """Return what its media are for the router, by the token that stands for each kind; none where one has none."""
        if self.media is None:
            media = self.request.media if all(item.kind in tokens for item in self.request.media) else ()
            self.media = [MediaItem(item.key, tokens[item.kind]) for item in media]
        return self.media

    def most_tokens(self) -> int:
        """Return how many tokens are left to generate at most."""
        most = self.request.sampling.get("max_tokens")
        return most - len(self.tokens) if isinstance(most, int) else sys.maxsize

    def room(self, context_tokens: int) -> int:
        """Return how many tokens a worker of that context could still generate; media count as their placeholders."""
        return min(self.most_tokens(), context_tokens - len(self.request.token_ids) - len(self.tokens))

    def sampling(self) -> dict[str, Any]:
        """Return the sampling fields for what is left to generate."""
        return sampling_left(self.request.sampling, len(self.tokens)) if self.tokens else self.request.sampling

    def asked(self, number: int, sampling: dict[str, Any], transfer: dict[str, Any] | None) -> Generate:
        """Return what a worker is given, under a number of its own; its KV is kept for another one while prefilling."""
        request = self.request
        return Generate(
            number,
            self.prompt_tokens(),
            sampling,
            transfer,
            lora=request.lora,
            priority=request.priority,
            cache_salt=request.cache_salt,
            media=list(request.media) or None,
            keep=self.stage is Stage.PREFILLING,
            resumed_tokens=len(self.tokens),
        )

    def cannot_move(self, most_moves: int, resumes: Collection[str]) -> str:
        """Tell why the generation cannot go on elsewhere; empty where it can."""
        if self.moves >= most_moves:
            return f"it has lost {self.moves} workers already" if self.moves else "the fleet's setting is moves=0"
        return obstacle(self.request.sampling, resumes) if self.tokens else ""

    def account(self, delta: Delta) -> None:
        """Note what a delta adds, and let it tell the client of the prompt once, and truly."""
        self.tokens += delta.token_ids
        if not self.told or delta.cached_tokens is not None:
            self._tell(delta)

    def _tell(self, delta: Delta) -> None:
        if self.told and self.moves:
            # A later worker speaks of a prompt that holds what the earlier ones generated.
            delta.cached_tokens = delta.prompt_tokens = delta.prompt_logprobs = None
        elif self.cached_tokens is None:
            self.cached_tokens = delta.cached_tokens
        elif delta.cached_tokens is not None:
            delta.cached_tokens = self.cached_tokens
        self.told = True


def prefill_sampling() -> dict[str, Any]:
    """Return the sampling of a prefill: one token, thrown away, that no stop condition may come before."""
    return {"max_tokens": 1, "temperature": 0.0, "ignore_eos": True}


def own_prefill_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    """Return the sampling of a prefill whose token is the answer's first: the request's own, for one token."""
    own = {**sampling, "max_tokens": 1}
    if own.get("min_tokens"):
        own["min_tokens"] = 1
    return own


def failed(delta: Delta) -> bool:
    """Tell whether a delta ends its sequence in failure."""
    return delta.finish == FinishReason.ERROR
