"""The fleet of worker processes on one machine: what happens to a request, from its prompt to its last token.

    generate -> prompt hashes -> worker by cost -> prefill there, or on a prefill worker -> Submit
    Step     -> by sequence id -> flight -> sink

Tokens take plain calls only, no task each; the stages of a flight are drawn in `cluster.flight`.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from tritium.backends.engine import Delta, EngineInfo, Generate, Step
from tritium.cluster.fleet import GenerationRequest, RouteReport, TokenSink
from tritium.cluster.flight import Flight, Stage, failed, prefill_sampling
from tritium.cluster.frames import Abort, Submit
from tritium.cluster.pool import WorkerPool
from tritium.cluster.samples import fleet_samples
from tritium.cluster.spec import FleetSpec
from tritium.cluster.supervisor import SupervisedWorker
from tritium.core.errors import InferenceError, InvalidArgument, ModelFailed, Overloaded, Unavailable, WorkerLost
from tritium.router.disaggregation import PrefillDecision, decide_prefill

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something an operator, or the readiness of the model, depends on: a worker became ready, or was lost."""

    kind: str
    worker: str
    detail: str = ""


@dataclass(slots=True)
class FleetCounters:
    """What the fleet counts of its requests."""

    requests: int = 0
    held: int = 0
    moved: int = 0
    lost: int = 0
    prompt_blocks: int = 0
    overlap_blocks: int = 0
    remote_prefills: int = 0
    prefill_fallbacks: int = 0


class Handle:
    """The caller's hold on a generation."""

    __slots__ = ("_fleet", "_flight")

    def __init__(self, fleet: "LocalFleet", flight: Flight) -> None:
        self._fleet = fleet
        self._flight = flight

    @property
    def route(self) -> RouteReport | None:
        """Return the route once it is chosen."""
        return self._flight.report

    def cancel(self) -> None:
        """Stop it in the engine; the sink hears nothing more."""
        self._fleet.cancel(self._flight)


class LocalFleet:
    """The workers of one language model, as child processes. Make one with `start_fleet`."""

    def __init__(self, spec: FleetSpec, name: str, on_event: Callable[[FleetEvent], None]) -> None:
        self.spec = spec
        self.name = name
        self.pool = WorkerPool(spec, on_step=self._take, on_ready=self._ready, on_lost=self._lost)
        self.counters = FleetCounters()
        self.flights: set[Flight] = set()
        self._on_event = on_event
        self._takers: dict[int, Callable[[Delta], None]] = {}
        self._held: dict[Flight, asyncio.TimerHandle] = {}
        self._ids = itertools.count(1)
        self._closing = False
        self._idle = asyncio.Event()

    @property
    def info(self) -> EngineInfo:
        """Return what the engine says of itself."""
        return self.pool.info

    @property
    def ready(self) -> bool:
        """Tell whether every role of the fleet has a live worker."""
        return not self._closing and self.pool.ready

    def generate(self, request: GenerationRequest, sink: TokenSink) -> Handle:
        """Route the request and stream its tokens into `sink`."""
        flight = Flight(request, sink)
        self.counters.requests += 1
        self.flights.add(flight)
        if self._closing:
            self._fail(flight, Unavailable(f"model '{self.name}' is unloading"))
        elif len(self.flights) > self.spec.max_requests:
            self._fail(
                flight,
                Overloaded(
                    f"model '{self.name}' has {self.spec.max_requests} requests under way, the most it takes",
                    hint="retry later, or raise max_requests in the fleet's setting",
                ),
            )
        else:
            self._dispatch(flight)
        return Handle(self, flight)

    def explain(self, token_ids: list[int]) -> RouteReport:
        """Tell where a prompt would go now and why, without sending it."""
        router = self.pool.generating
        prompt = router.prompt(token_ids)
        route = router.choose(prompt)
        decision = self._decide(len(token_ids), route.overlap_blocks)
        report = RouteReport(
            route.worker, route.because, route.overlap_blocks, route.prompt_blocks, route.cost, candidates=[]
        )
        pool = [(router, "generate")]
        if decision is not None:
            report.because += f"; {'remote' if decision.remote else 'local'} prefill: {decision.because}"
            if decision.remote:
                prefill = self.pool.prefilling
                report.prefill_worker = prefill.choose(prompt).worker
                pool.append((prefill, "prefill"))
        report.candidates = [
            {
                "worker": candidate.worker,
                "for": purpose,
                "overlap_blocks": candidate.overlap_blocks,
                "active": candidate.active,
                "cost": candidate.cost,
            }
            for router, purpose in pool
            for candidate in router.candidates(prompt)
        ]
        return report

    def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        """Return samples as (name, labels, value)."""
        return fleet_samples(self)

    async def close(self) -> None:
        """Finish what runs, then end every worker."""
        self._closing = True
        for flight in list(self._held):
            self._fail(flight, Unavailable(f"model '{self.name}' is unloading"))
        if self.flights:
            self._idle.clear()
            try:
                await asyncio.wait_for(self._idle.wait(), self.spec.drain_s)
            except TimeoutError:
                for flight in list(self.flights):
                    self._abort(flight)
                    self._fail(flight, Unavailable(f"model '{self.name}' is unloading"))
        await self.pool.stop()

    def cancel(self, flight: Flight) -> None:
        """Stop a generation in the engine; its sink hears nothing more."""
        if flight.stage is not Stage.OVER:
            self._abort(flight)
            self._over(flight)

    # The way of a request, in its order.

    def _dispatch(self, flight: Flight) -> None:
        """Send a flight to a worker, hold it, or fail it."""
        router = self.pool.generating
        request = flight.request
        try:
            if not len(router) or self._restarting(request.worker):
                self._hold(flight)
                return
            if flight.prompt is None:
                self._check(request)
            flight.prompt = router.prompt(flight.prompt_tokens(), salt=request.cache_salt, lora=request.lora)
            route = router.choose(flight.prompt, pinned=request.worker)
        except InferenceError as error:
            self._fail(flight, error)
            return
        except (OverflowError, TypeError):
            self._fail(flight, InvalidArgument("a prompt is a list of token ids, numbers from 0 to 4294967295"))
            return
        self.counters.prompt_blocks += route.prompt_blocks
        self.counters.overlap_blocks += route.overlap_blocks
        flight.worker = route.worker
        flight.report = RouteReport(route.worker, route.because, route.overlap_blocks, route.prompt_blocks, route.cost)
        decision = self._decide(flight.prompt.tokens, route.overlap_blocks)
        if decision is not None and decision.remote and "prompt_logprobs" not in request.sampling:
            self._prefill(flight, decision)
            flight.lease = router.lease(route, flight.prompt)
            router.book.prefilled(flight.lease)
        else:
            flight.lease = router.lease(route, flight.prompt)
            if decision is not None:
                flight.report.because += f"; local prefill: {decision.because}"
            self._submit(flight, None)
        log.debug(
            "routed",
            model=self.name,
            request=request.request_id,
            worker=route.worker,
            because=flight.report.because,
            cost=route.cost,
            prefill_worker=flight.report.prefill_worker,
        )

    def _restarting(self, worker: str) -> bool:
        """Tell whether a pinned worker is one of ours that will be back."""
        return worker in self.pool.workers and not self.pool.workers[worker].ready

    def _check(self, request: GenerationRequest) -> None:
        """Refuse what no worker could take.

        Raises:
            InvalidArgument: an empty prompt, or one beyond the context.
            NotFound: a pinned worker that the fleet does not have.
        """
        if not request.token_ids:
            raise InvalidArgument("the prompt is empty")
        if len(request.token_ids) >= self.info.context_tokens:
            raise InvalidArgument(
                f"the prompt has {len(request.token_ids)} tokens; the model's context is {self.info.context_tokens},"
                " of which at least one must be left to generate"
            )

    def _decide(self, prompt_tokens: int, overlap_blocks: int) -> PrefillDecision | None:
        if not self.spec.prefill:
            return None
        block_tokens = self.info.block_tokens
        return decide_prefill(
            prompt_tokens=prompt_tokens,
            cached_tokens=overlap_blocks * block_tokens,
            block_tokens=block_tokens,
            local_tokens=self.spec.local_prefill_tokens,
            prefill_workers=len(self.pool.prefilling),
        )

    def _prefill(self, flight: Flight, decision: PrefillDecision) -> None:
        """Have a prefill worker compute the prompt."""
        assert flight.prompt is not None
        assert flight.report is not None
        router = self.pool.prefilling
        route = router.choose(flight.prompt)
        flight.prefill_lease = router.lease(route, flight.prompt)
        flight.prefill_id = next(self._ids)
        flight.stage = Stage.PREFILLING
        flight.report.prefill_worker = route.worker
        flight.report.because += f"; prefilled by {route.worker} ({route.because}): {decision.because}"
        self.counters.remote_prefills += 1
        self._takers[flight.prefill_id] = lambda delta: self._prefilled(flight, delta)
        self.pool.send(
            route.worker,
            Submit(
                Generate(
                    flight.prefill_id,
                    flight.prompt_tokens(),
                    prefill_sampling(),
                    lora=flight.request.lora,
                    priority=flight.request.priority,
                    cache_salt=flight.request.cache_salt,
                )
            ),
        )

    def _prefilled(self, flight: Flight, delta: Delta) -> None:
        """Take a prefill worker's answer and go on to the worker that generates."""
        if delta.cached_tokens is not None and flight.cached_tokens is None:
            flight.cached_tokens = delta.cached_tokens
        if delta.finish is None:
            return
        if failed(delta) or delta.transfer is None:
            self._prefill_lost(flight, delta.error or "it returned no transfer")
            return
        self._end_prefill(flight)
        self._submit(flight, delta.transfer)

    def _prefill_lost(self, flight: Flight, reason: str) -> None:
        """Prefill on the generating worker instead."""
        assert flight.report is not None
        self.counters.prefill_fallbacks += 1
        flight.cached_tokens = None
        flight.report.because += f"; prefill by {flight.report.prefill_worker} failed ({reason}), so prefilled here"
        flight.report.prefill_worker = ""
        self._end_prefill(flight)
        self._submit(flight, None)

    def _end_prefill(self, flight: Flight) -> None:
        self._takers.pop(flight.prefill_id, None)
        flight.prefill_id = 0
        if flight.prefill_lease is not None:
            self.pool.prefilling.book.release(flight.prefill_lease)
            flight.prefill_lease = None

    def _submit(self, flight: Flight, transfer: dict[str, Any] | None) -> None:
        """Hand the flight to the worker that generates."""
        request = flight.request
        flight.stage = Stage.GENERATING
        flight.transferred = transfer is not None
        flight.id = next(self._ids)
        self._takers[flight.id] = lambda delta: self._deliver(flight, delta)
        self.pool.send(
            flight.worker,
            Submit(
                Generate(
                    flight.id,
                    flight.prompt_tokens(),
                    flight.sampling(),
                    transfer,
                    request.lora,
                    request.priority,
                    request.cache_salt,
                )
            ),
        )

    def _deliver(self, flight: Flight, delta: Delta) -> None:
        """Pass one delta on to the sink."""
        lease = flight.lease
        assert lease is not None
        if lease.prefilling:
            self.pool.generating.book.prefilled(lease)
        if delta.finish is not None:
            if failed(delta):
                self._failed(flight, delta)
                return
            flight.account(delta)
            self._over(flight)
        else:
            flight.account(delta)
        try:
            flight.sink.on_delta(delta)
        except Exception:
            # One sink's fault must not cost the others their tokens; its own sequence is of no use any more.
            log.exception("sink_failed", model=self.name, request=flight.request.request_id)
            self.cancel(flight)

    def _failed(self, flight: Flight, delta: Delta) -> None:
        if flight.transferred and not flight.tokens and not delta.invalid:
            assert flight.report is not None
            self.counters.prefill_fallbacks += 1
            flight.cached_tokens = None
            flight.report.because += f"; its KV did not arrive ({delta.error}), so prefilled here"
            self._takers.pop(flight.id, None)
            self._submit(flight, None)
            return
        words = delta.error or "the engine failed without a reason"
        self._fail(flight, InvalidArgument(words) if delta.invalid else ModelFailed(words))

    # Ends, and what must be given back at each.

    def _hold(self, flight: Flight) -> None:
        flight.stage = Stage.HELD
        if flight not in self._held:
            self.counters.held += 1
            loop = asyncio.get_running_loop()
            self._held[flight] = loop.call_later(self.spec.hold_s, self._held_too_long, flight)

    def _held_too_long(self, flight: Flight) -> None:
        self._fail(
            flight,
            Unavailable(
                f"no worker of model '{self.name}' became ready within {self.spec.hold_s:g} s",
                hint="the server's log says why its workers do not start",
            ),
        )

    def _fail(self, flight: Flight, error: InferenceError) -> None:
        self._over(flight)
        try:
            flight.sink.on_failure(error)
        except Exception:
            log.exception("sink_failed", model=self.name, request=flight.request.request_id)

    def _abort(self, flight: Flight) -> None:
        if flight.prefill_id and flight.report is not None:
            self.pool.send(flight.report.prefill_worker, Abort(flight.prefill_id))
        if flight.stage is Stage.GENERATING:
            self.pool.send(flight.worker, Abort(flight.id))

    def _over(self, flight: Flight) -> None:
        self._land(flight)
        flight.stage = Stage.OVER
        self.flights.discard(flight)
        if timer := self._held.pop(flight, None):
            timer.cancel()
        if not self.flights:
            self._idle.set()

    def _land(self, flight: Flight) -> None:
        """Give back everything the flight has of its workers."""
        if flight.prefill_id:
            self._end_prefill(flight)
        self._takers.pop(flight.id, None)
        if flight.lease is not None:
            self.pool.generating.book.release(flight.lease)
            flight.lease = None

    # What workers say.

    def _take(self, _worker: SupervisedWorker, step: Step) -> None:
        takers = self._takers
        for delta in step.deltas:
            taker = takers.get(delta.id)
            if taker is not None:
                taker(delta)

    def _ready(self, worker: SupervisedWorker) -> None:
        self._on_event(FleetEvent("worker_ready", worker.name))
        for flight in list(self._held):
            self._held.pop(flight).cancel()
            self._dispatch(flight)

    def _lost(self, worker: SupervisedWorker, reason: str) -> None:
        self._on_event(FleetEvent("worker_lost", worker.name, reason))
        for flight in list(self.flights):
            if flight.stage is Stage.PREFILLING and flight.report and flight.report.prefill_worker == worker.name:
                self._prefill_lost(flight, "the worker was lost")
            elif flight.worker == worker.name and flight.stage in (Stage.GENERATING, Stage.PREFILLING):
                self._move(flight, worker.name)

    def _move(self, flight: Flight, lost: str) -> None:
        """Go on with a flight whose worker died on another one, where that can be done."""
        why_not = flight.can_move()
        if not why_not and flight.tokens and not len(self.pool.generating):
            why_not = "no other worker is ready"
        if why_not:
            self.counters.lost += 1
            words = f"worker {lost} died under the request"
            self._fail(flight, WorkerLost(words, hint=f"it could not go on elsewhere: {why_not}"))
            return
        if flight.prefill_id and flight.report is not None:
            self.pool.send(flight.report.prefill_worker, Abort(flight.prefill_id))
        self._land(flight)
        flight.moves += 1
        self.counters.moved += 1
        self._dispatch(flight)
        if flight.report is not None and flight.stage is not Stage.OVER:
            flight.report.because += f"; moved from {lost} after {len(flight.tokens)} tokens"


async def start_fleet(
    spec: FleetSpec,
    *,
    name: str,
    engine: str,
    folder: Path,
    arguments: Mapping[str, Any],
    on_event: Callable[[FleetEvent], None] = lambda _: None,
) -> LocalFleet:
    """Start the workers of one model and return the fleet when all are ready.

    Raises:
        InferenceError: a worker could not load the model; none is left running.
    """
    fleet = LocalFleet(spec, name, on_event)
    await fleet.pool.start(engine, folder, arguments)
    return fleet
