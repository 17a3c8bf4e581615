"""The fleet of worker processes on one machine: the `workers`, and what goes on in them.

Generations are `flights`, prompts that are pooled `poolings`, adapters loaded at run time `adapters`.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tritium.backends.engine import EngineInfo, Pooled, Step
from tritium.cluster.adapters import Adapters
from tritium.cluster.changes import FleetChanges, shape_of
from tritium.cluster.fleet import (
    CandidateReport,
    GenerationRequest,
    OwnSample,
    PoolRequest,
    PrefillReport,
    RouteReport,
    TokenSink,
)
from tritium.cluster.flight import Flight
from tritium.cluster.flights import Flights
from tritium.cluster.member import PoolWorker
from tritium.cluster.pool import WorkerPool
from tritium.cluster.poolings import Poolings
from tritium.cluster.roles import Roles
from tritium.cluster.samples import Sample, fleet_samples, own_samples
from tritium.cluster.spec import FleetSpec, parse_mode
from tritium.cluster.standing import FleetReport
from tritium.cluster.timings import Timings


class Handle:
    """The caller's hold on a generation."""

    __slots__ = ("_flight", "_flights")

    def __init__(self, flights: Flights, flight: Flight) -> None:
        self._flights = flights
        self._flight = flight

    @property
    def route(self) -> RouteReport | None:
        """Return the route once it is chosen."""
        return self._flight.report

    def cancel(self) -> None:
        """Stop it in the engine; the sink hears nothing more. Harmless when it is over."""
        self._flights.cancel(self._flight)


class LocalFleet:
    """A Fleet (see `cluster.fleet`) of child processes. Make one with `start_fleet`."""

    def __init__(
        self,
        spec: FleetSpec,
        name: str,
        *,
        info: EngineInfo | None = None,
    ) -> None:
        """Make one; `info` is what the engine says of itself, where that is known before a worker is ready."""
        self.spec = spec
        self.name = name
        self.workers = WorkerPool(
            spec,
            on_step=self._step,
            on_pooled=self._pooled,
            on_ready=self._ready,
            on_lost=self._lost,
            info=info,
        )
        self.flights = Flights(self.workers, name)
        self.timings = Timings()
        self.poolings = Poolings(self.workers, name, self.flights.waiting)
        self.adapters = Adapters(self.workers)
        self._roles = Roles(self.workers, lambda name: self.flights.busy_with(name) + self.poolings.busy_with(name))
        self._changes = FleetChanges(self.workers, self._roles)

    @property
    def info(self) -> EngineInfo:
        """Return what the engine says of itself."""
        return self.workers.info

    @property
    def shape(self) -> str:
        """Return how many workers of which role there are."""
        return shape_of(self.workers)

    @property
    def ready(self) -> bool:
        """Tell whether every role of the fleet has a live worker."""
        return not self.flights.closing and self.workers.ready

    def generate(self, request: GenerationRequest, sink: TokenSink) -> Handle:
        """Route the request and stream its tokens into `sink`."""
        if request.lora:
            request = replace(request, lora=self.adapters.key(request.lora))
        flight = Flight(request, sink, self.timings.watch(request.arrived_s))
        self.flights.start(flight)
        return Handle(self.flights, flight)

    async def pool(self, request: PoolRequest) -> Pooled:
        """Pool a prompt on the worker that costs least."""
        if request.lora:
            request = replace(request, lora=self.adapters.key(request.lora))
        return await self.poolings.pool(request)

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter in every worker."""
        await self.adapters.load(name, path)

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter that was loaded at run time."""
        await self.adapters.unload(name)

    def route_by(self, mode: str) -> str:
        """Choose workers by another mode from now on; return its name."""
        chosen = parse_mode(mode)
        self.workers.route_by(chosen)
        return chosen.value

    async def change(self, setting: str, workers: Mapping[str, str]) -> FleetReport:
        """Change roles, the router's mode and thresholds while the fleet serves; return how it stands."""
        changes = await self._changes.apply(setting, workers)
        return self._changes.report(self.shape, changes)

    def explain(
        self, token_ids: list[int], *, cache_salt: str = "", lora: str = "", worker: str = "", session: str = ""
    ) -> RouteReport:
        """Tell where a prompt would go now and why, without sending it."""
        router = self.workers.generating
        prompt = router.prompt(token_ids, salt=cache_salt, lora=self.adapters.key(lora))
        route = router.choose(prompt, pinned=worker, session=session)
        report = RouteReport(
            route.worker, route.because, route.overlap_blocks, route.prompt_blocks, route.cost, route.price
        )
        if self.flights.waiting.must_wait(router):
            report.because += f"; every worker is full, {self.flights.waiting.count} requests wait already"
        pools = {"generate": router}
        plan = self.workers.plan_prefill(prompt, route)
        if plan is not None:
            report.because += f"; {'remote' if plan.decision.remote else 'local'} prefill: {plan.decision.because}"
            report.prefill = PrefillReport.of(plan.decision)
            if plan.decision.remote and plan.route is not None:
                pools["prefill"] = self.workers.prefilling
                report.prefill_worker = plan.route.worker
        report.candidates = [
            CandidateReport(
                candidate.worker,
                purpose,
                candidate.overlap_blocks,
                candidate.active,
                candidate.cost,
                candidate.price,
                candidate.held,
            )
            for purpose, workers in pools.items()
            for candidate in workers.candidates(prompt)
        ]
        return report

    def metrics(self) -> list[Sample]:
        """Return samples as (name, labels, value)."""
        asked = [
            ("tritium_fleet_role_changes_total", {"model": self.name, "outcome": outcome}, float(count))
            for outcome, count in (("changed", self._roles.changed), ("kept", self._roles.kept))
        ]
        return [*fleet_samples(self.name, self.flights, self.workers), *asked]

    def own_metrics(self) -> list[OwnSample]:
        """Return what the workers' engines measure themselves."""
        return [
            *self.timings.samples(self.name),
            *self.flights.waiting.samples(self.name),
            *own_samples(self.name, self.workers),
        ]

    async def close(self) -> None:
        """Finish what runs, then end every worker."""
        self.poolings.refuse()
        await self.flights.close(self.spec.drain_s)
        await self.poolings.close(self.spec.drain_s)
        await self.workers.stop()

    def _step(self, step: Step) -> None:
        self.flights.take(step)

    def _pooled(self, pooled: Pooled) -> None:
        self.poolings.take(pooled)

    def _ready(self, _worker: PoolWorker) -> None:
        self.flights.worker_ready()
        self.poolings.worker_ready()

    def _lost(self, worker: PoolWorker, _reason: str) -> None:
        self.flights.worker_lost(worker.name)
        self.poolings.worker_lost(worker.name)


async def start_fleet(
    spec: FleetSpec,
    *,
    name: str,
    engine: str,
    folder: Path,
    arguments: Mapping[str, Any],
) -> LocalFleet:
    """Start the workers of one model and return the fleet when all are ready.

    Raises:
        InferenceError: a worker could not load the model; none is left running.
    """
    fleet = LocalFleet(spec, name)
    await fleet.workers.start(engine, folder, arguments)
    return fleet
