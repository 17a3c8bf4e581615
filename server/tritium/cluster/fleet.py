"""What serves one language model: workers behind a router, asked for tokens one generation at a time.

    generate -> router.choose -> [prefill worker -> transfer] -> worker -> deltas -> sink
    pool     -> router.choose -> worker -> numbers

This file is the contract that the protocols are written against; `cluster.local` is the fleet of worker
processes on one machine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from tritium.backends.engine import Delta, EngineInfo, Media, Pooled
from tritium.cluster.standing import FleetReport
from tritium.core.errors import InferenceError
from tritium.router.choice import Price
from tritium.router.disaggregation import PrefillDecision
from tritium.router.tiers import Held


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence to generate: a prompt in token ids, and SamplingParams fields by vLLM's names.

    `worker` pins the request to a worker by name; `session` names what it belongs to, for routers in the mode of that
    name; `cache_salt` keeps its blocks apart from those of other tenants. `tenant` is whom it is for: where requests
    wait, tenants take turns.
    """

    token_ids: list[int]
    sampling: dict[str, Any]
    request_id: str = ""
    worker: str = ""
    session: str = ""
    cache_salt: str = ""
    lora: str = ""
    priority: int = 0
    tenant: str = ""
    media: Sequence[Media] = ()
    arrived_s: float = 0.0
    """When the client's request came, on the monotonic clock; 0 where that is not known."""


@dataclass(frozen=True, slots=True)
class PoolRequest:
    """One prompt to pool; `task`, `parameters` and `second_at` are those of `backends.engine.Pool`."""

    token_ids: list[int]
    task: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    worker: str = ""
    lora: str = ""
    priority: int = 0
    tenant: str = ""
    second_at: int = 0


class TokenSink(Protocol):
    """Where the tokens of one generation go, called on the event loop once a step.

    Contract: deltas come in order; the one whose `finish` is set is the last, unless `on_failure` ends it instead.
    """

    def on_delta(self, delta: Delta) -> None:
        """Take what one step added."""
        ...

    def on_failure(self, error: InferenceError) -> None:
        """Take the reason why no further delta comes."""
        ...


class CandidateReport(msgspec.Struct, frozen=True):
    """What one worker would have cost; `purpose` (in JSON `for`) is generate, or prefill in disaggregated fleets.

    `price` has the parts of the cost in blocks to compute, `held` the overlapping blocks by tier.
    """

    worker: str
    purpose: str = msgspec.field(name="for")
    overlap_blocks: int
    active: int
    cost: float
    price: Price
    held: Held


class PrefillReport(msgspec.Struct, frozen=True):
    """Where a prompt would be computed ("remote" or "local") and why; the milliseconds as far as they are learnt."""

    where: str
    reason: str
    local_ms: float | None = None
    remote_ms: float | None = None

    @staticmethod
    def of(decision: PrefillDecision) -> "PrefillReport":
        """Report a decision."""
        local_s, remote_s = decision.local_s, decision.remote_s
        return PrefillReport(
            "remote" if decision.remote else "local",
            decision.reason.value,
            None if local_s is None else round(local_s * 1e3, 3),
            None if remote_s is None else round(remote_s * 1e3, 3),
        )


@dataclass(slots=True)
class RouteReport:
    """Why a generation went where it went; fit for a header, a log line and an explain endpoint."""

    worker: str
    because: str
    overlap_blocks: int = 0
    prompt_blocks: int = 0
    cost: float = 0.0
    price: Price | None = None
    """The parts of the cost, in blocks to compute."""
    prefill_worker: str = ""
    prefill: PrefillReport | None = None
    """In explanations of disaggregated fleets."""
    candidates: list[CandidateReport] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OwnSample:
    """One value of a metric that an engine keeps itself, as Prometheus has it."""

    family: str
    suffix: str
    kind: str
    help: str
    labels: Mapping[str, str]
    value: float


class Generation(Protocol):
    """A generation under way."""

    @property
    def route(self) -> RouteReport | None:
        """Return the route once it is chosen."""
        ...

    def cancel(self) -> None:
        """Stop it in the engine; the sink hears nothing more. Harmless when it is over."""
        ...


class Fleet(Protocol):
    """The workers of one language model.

    Contract: `generate` returns at once and never raises; the sink may be called before it returns. A request that
    no worker can take now is held until one can, or failed (Unavailable, Overloaded) beyond the fleet's bounds.
    """

    name: str

    @property
    def info(self) -> EngineInfo:
        """Return what the engine says of itself."""
        ...

    @property
    def shape(self) -> str:
        """Return how many workers of which role there are, as a person reads it: `1 prefill + 2 decode`."""
        ...

    @property
    def ready(self) -> bool:
        """Tell whether every role of the fleet has a live worker."""
        ...

    def generate(self, request: GenerationRequest, sink: TokenSink) -> Generation:
        """Route the request and stream its tokens into `sink`."""
        ...

    async def pool(self, request: PoolRequest) -> Pooled:
        """Pool a prompt on the worker that costs least; cancelling the call cancels it in the engine.

        Raises:
            InvalidArgument: the model does not do this task, or the engine refuses the request.
            InferenceError: it failed; `error` of what is returned is never set.
        """
        ...

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter in every worker, and in those that start again; a name that is known is loaded anew.

        Raises:
            InvalidArgument: the engine takes no adapters at run time, or not this one.
            Unavailable: no worker is ready.
        """
        ...

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter that was loaded at run time; requests under way with it finish.

        Raises:
            NotFound: no adapter of that name was loaded.
        """
        ...

    def route_by(self, mode: str) -> str:
        """Choose workers by another mode from now on; return its name.

        Raises:
            InvalidArgument: there is no such mode.
        """
        ...

    async def change(self, setting: str, workers: Mapping[str, str]) -> FleetReport:
        """Change roles, the router's mode and thresholds while the fleet serves; return how it stands.

        `setting` is the fleet's own as far as that can change, `workers` the roles of some by name; with neither it
        only tells.

        Raises:
            InvalidArgument: an option that is unknown or fixed, or roles that make no fleet; nothing is changed.
            NotFound: there is no such worker.
            Unavailable: a worker is not ready, does not drain, or another change is under way.
            InferenceError: a worker cannot be started in its role; it has its old one again.
        """
        ...

    def explain(
        self, token_ids: list[int], *, cache_salt: str = "", lora: str = "", worker: str = "", session: str = ""
    ) -> RouteReport:
        """Tell where a prompt would go now and why, without sending it; `worker` and `session` as in a request.

        Raises:
            Unavailable: no worker is ready.
            NotFound: the pinned worker is not among them.
            InvalidArgument: these are no token ids.
        """
        ...

    def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        """Return samples as (name, labels, value)."""
        ...

    def own_metrics(self) -> list[OwnSample]:
        """Return what the workers' engines measure themselves, with the worker among the labels."""
        ...

    async def close(self) -> None:
        """Finish what runs, then end every worker."""
        ...
