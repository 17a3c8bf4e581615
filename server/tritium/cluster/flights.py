"""All generations of a fleet, moved from stage to stage: what happens to a request from its prompt to its last token.

    start -> dispatch -> [wait -> turn] -> route -> [prefill elsewhere -> prefilled] -> submit -> deliver ... -> over

The stages are drawn in `cluster.flight`. Everything here is a plain call on the event loop: a token costs no task.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from tritium.backends.engine import Delta, FinishReason, Step
from tritium.cluster import endings
from tritium.cluster.acceptance import check
from tritium.cluster.channel import UNSENDABLE
from tritium.cluster.fleet import RouteReport
from tritium.cluster.flight import Flight, FlightCounters, Stage, failed, own_prefill_sampling, prefill_sampling
from tritium.cluster.frames import Abort, Submit
from tritium.cluster.held import Held
from tritium.cluster.patience import Patience
from tritium.cluster.pool import WorkerPool
from tritium.cluster.prefill import stays_local
from tritium.cluster.waiting import Waiter, Waiting
from tritium.core.errors import InferenceError, Internal, ModelFailed
from tritium.router.admission import Refusal
from tritium.router.choice import Route
from tritium.router.disaggregation import PrefillDecision
from tritium.router.media import MediaLengths
from tritium.router.router import Prompt, Router

log = structlog.get_logger(__name__)


class Flights:
    """The generations under way on a pool of workers.

    Contract: a worker's steps, its readiness and its loss are reported to `take`, `worker_ready` and `worker_lost`.
    """

    def __init__(self, pool: WorkerPool, model: str) -> None:
        self.counters = FlightCounters()
        self._pool = pool
        self._spec = pool.spec
        self._model = model
        self._flights: set[Flight] = set()
        self.held = Held(pool.spec.hold_s, self._held_too_long)
        self.waiting = Waiting(pool.spec.waiting, lambda: pool.generating)
        self._waiters: dict[Flight, Waiter] = {}
        self._takers: dict[int, Callable[[Delta], None]] = {}
        self._ids = itertools.count(1)
        self._patience = Patience(self._spec.token_s, marks=self._marks, overdue=self._overdue)
        self._media = MediaLengths()
        self._closing = False
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        """Return how many are under way or held."""
        return len(self._flights)

    @property
    def closing(self) -> bool:
        """Tell whether nothing new is taken any more."""
        return self._closing

    def start(self, flight: Flight) -> None:
        """Take a generation in, and send it on its way or fail it."""
        self.counters.requests += 1
        self._flights.add(flight)
        if self._closing:
            self._fail(flight, endings.unloading(self._model))
        elif len(self._flights) > self._spec.max_requests:
            self.waiting.refused[Refusal.TOO_MANY] += 1
            self._fail(flight, endings.too_many(self._model, self._spec.max_requests))
        else:
            self._patience.watch()
            self._dispatch(flight)

    def cancel(self, flight: Flight) -> None:
        """Stop a generation in the engine; its sink hears nothing more. Harmless when it is over."""
        if flight.stage is not Stage.OVER:
            self._abort(flight)
            self._over(flight)

    async def close(self, within_s: float) -> None:
        """Refuse new ones and let those under way end; fail what is left after `within_s`."""
        self._closing = True
        for flight in (*self.held, *self._waiters):
            self._fail(flight, endings.unloading(self._model))
        if self._flights:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), within_s)
            except TimeoutError:
                for flight in list(self._flights):
                    self._abort(flight)
                    self._fail(flight, endings.unloading(self._model))
        self._patience.stop()

    # What the pool reports.

    def take(self, step: Step) -> None:
        """Hand the deltas of a step to their generations."""
        takers = self._takers
        for delta in step.deltas:
            taker = takers.get(delta.id)
            if taker is not None:
                taker(delta)

    def worker_ready(self) -> None:
        """Send on what was held."""
        for flight in self.held:
            self._dispatch(flight)
        self.waiting.opened()

    def worker_lost(self, worker: str) -> None:
        """Go on elsewhere with what the worker was doing, or fail it."""
        for flight in list(self._flights):
            if flight.stage is Stage.PREFILLING and flight.prefill_worker == worker:
                self._prefill_failed(flight, "the worker was lost")
            elif flight.worker == worker and flight.stage in (Stage.PREFILLING, Stage.GENERATING):
                self._move(flight)

    def busy_with(self, worker: str) -> int:
        """Count the generations that need a worker: it decodes for them, or has their KV until that is fetched."""
        return sum(
            (flight.stage in (Stage.PREFILLING, Stage.GENERATING) and flight.worker == worker)
            or (flight.prefill_worker == worker and (flight.stage is Stage.PREFILLING or flight.handed_s > 0))
            for flight in self._flights
        )

    # The way of a generation, in its order.

    def _dispatch(self, flight: Flight) -> None:
        """Send a flight to a worker, hold it, let it wait, or fail it."""
        router = self._pool.generating
        request = flight.request
        try:
            if flight.prompt is None:
                check(request, self._pool.info, self._model)
            if not len(router) or self._pool.coming_back(request.worker):
                self._hold(flight)
                return
            if self.waiting.must_wait(router) and not flight.moves:
                self._wait(flight, router)
                return
        except InferenceError as error:
            self._fail(flight, error)
            return
        self._route(flight)

    def _wait(self, flight: Flight, router: Router) -> None:
        """Let a flight wait until a worker has room and its turn has come.

        Raises:
            RoomFull: too many wait already.
        """
        self.held.release(flight)
        request = flight.request
        waiter = Waiter(
            request.tenant,
            router.expected_blocks(len(request.token_ids), flight.most_tokens()),
            request.priority,
            go=lambda: self._turn(flight),
            refuse=lambda error: self._fail(flight, error),
        )
        self.waiting.hold(waiter)
        self._waiters[flight] = waiter
        flight.stage = Stage.HELD

    def _turn(self, flight: Flight) -> None:
        """Send on a flight that has waited."""
        flight.watch.waited(time.monotonic() - self._waiters.pop(flight).since_s)
        if self._pool.coming_back(flight.request.worker):
            self._hold(flight)
        else:
            self._route(flight)

    def _prompt(self, flight: Flight, router: Router) -> Prompt:
        """Hash what a worker will have, media at their full length where that is known."""
        request, token_ids = flight.request, flight.prompt_tokens()
        if not request.media:
            return router.prompt(token_ids, salt=request.cache_salt, lora=request.lora)
        laid = self._media.lay_out(token_ids, flight.media_items(self._pool.info.media_tokens))
        return router.prompt(laid.token_ids, salt=request.cache_salt, lora=request.lora, media=laid.media)

    def _route(self, flight: Flight) -> None:
        """Send a flight to the worker that costs least."""
        router = self._pool.generating
        request = flight.request
        try:
            began_s = time.monotonic()
            prompt = flight.prompt = self._prompt(flight, router)
            route = router.choose(prompt, pinned=request.worker, session=request.session)
            plan = self._pool.plan_prefill(prompt, route, stays=stays_local(request))
            if plan is not None and plan.decision.remote and plan.route is None:
                # The worker cannot compute the prompt, and whoever could is not ready.
                self._hold(flight)
                return
        except InferenceError as error:
            self._fail(flight, error)
            return
        self.held.release(flight)
        flight.watch.routed(began_s)
        self.counters.prompt_blocks += route.prompt_blocks
        self.counters.overlap_blocks += route.overlap_blocks
        flight.worker = route.worker
        flight.lease = router.lease(route, prompt, max_tokens=flight.most_tokens(), now_s=began_s)
        report = flight.report = RouteReport(
            route.worker, route.because, route.overlap_blocks, route.prompt_blocks, route.cost, route.price
        )
        if plan is not None:
            self._pool.prefill.count(plan)
        if plan is not None and plan.route is not None and plan.decision.remote:
            flight.moved_tokens = prompt.tokens - route.overlap_blocks * router.block_tokens
            router.book.prefilled(flight.lease)
            self._prefill(flight, plan.decision, plan.route)
        else:
            if plan is not None:
                report.because += f"; local prefill: {plan.decision.because}"
            self._submit(flight, None)
        log.debug("routed", model=self._model, request=request.request_id, worker=route.worker, because=report.because)

    def _prefill(self, flight: Flight, decision: PrefillDecision, route: Route) -> None:
        """Have a prefill worker compute the prompt."""
        assert flight.prompt is not None
        assert flight.report is not None
        router = self._pool.prefilling
        flight.stage = Stage.PREFILLING
        flight.prefill_worker = flight.report.prefill_worker = route.worker
        flight.prefill_lease = router.lease(route, flight.prompt, now_s=time.monotonic())
        flight.report.because += f"; prefilled by {route.worker} ({route.because}): {decision.because}"
        self.counters.remote_prefills += 1
        flight.prefill_id = next(self._ids)
        self._takers[flight.prefill_id] = lambda delta: self._prefilled(flight, delta)
        sampling = own_prefill_sampling(flight.sampling()) if self._pool.info.first_token_moves else prefill_sampling()
        self._send(flight, route.worker, flight.prefill_id, sampling, None)

    def _prefilled(self, flight: Flight, delta: Delta) -> None:
        """Take a prefill worker's answer and go on to the worker that generates."""
        if delta.cached_tokens is not None and flight.cached_tokens is None:
            flight.cached_tokens = delta.cached_tokens
        if delta.finish is None:
            return
        if delta.finish == FinishReason.STOP and self._pool.info.first_token_moves:
            # The first token is the last as well.
            self._end_prefill(flight)
            flight.stage = Stage.GENERATING
            delta.transfer = None
            self._deliver(flight, delta)
            return
        if failed(delta) or delta.transfer is None:
            self._prefill_failed(flight, delta.error or "it returned no transfer")
            return
        if flight.prefill_lease is not None:
            self._pool.prefilling.prefilled(flight.prefill_lease, now_s=time.monotonic())
        self._end_prefill(flight)
        self._submit(flight, delta.transfer)

    def _prefill_failed(self, flight: Flight, reason: str) -> None:
        self._end_prefill(flight)
        self._prefill_here(flight, f"prefill by {flight.prefill_worker} failed ({reason})")

    def _prefill_here(self, flight: Flight, reason: str) -> None:
        """Have the worker that generates compute the prompt after all."""
        assert flight.report is not None
        self.counters.prefill_fallbacks += 1
        flight.cached_tokens = None
        if not self._pool.computes_prompts(flight.worker):
            self._prefill_again(flight, reason)
            return
        flight.report.because += f"; {reason}, so prefilled here"
        flight.report.prefill_worker = ""
        self._submit(flight, None)

    def _prefill_again(self, flight: Flight, reason: str) -> None:
        """Start over with a prompt that the worker that generates cannot compute, as if its worker had been lost."""
        flight.moves += 1
        if flight.moves > self._spec.moves:
            self._fail(flight, ModelFailed(f"{reason}, {flight.moves} times in all"))
            return
        self._land(flight)
        self._dispatch(flight)
        if flight.report is not None:
            flight.report.because += f"; before: {reason}"

    def _submit(self, flight: Flight, transfer: dict[str, Any] | None) -> None:
        """Hand the flight to the worker that generates."""
        flight.stage = Stage.GENERATING
        flight.transferred = transfer is not None
        flight.handed_s = time.monotonic() if transfer is not None else 0.0
        flight.id = next(self._ids)
        if flight.told:
            self._takers[flight.id] = lambda delta: self._resume(flight, delta)
        else:
            self._takers[flight.id] = lambda delta: self._deliver(flight, delta)
        self._send(flight, flight.worker, flight.id, flight.sampling(), transfer)

    def _send(
        self, flight: Flight, worker: str, number: int, sampling: dict[str, Any], transfer: dict[str, Any] | None
    ) -> None:
        flight.watch.sent()
        try:
            self._pool.send(worker, Submit(flight.asked(number, sampling, transfer)))
        except UNSENDABLE as error:
            # Sampling, priority and media go to the engine as they came.
            self._fail(flight, endings.unsendable(error))

    def _resume(self, flight: Flight, delta: Delta) -> None:
        """Take the first delta of a worker that goes on where another was lost."""
        flight.watch.resumed()
        self._takers[flight.id] = lambda delta: self._deliver(flight, delta)
        self._deliver(flight, delta)

    def _deliver(self, flight: Flight, delta: Delta) -> None:
        """Pass one delta on to the sink."""
        assert flight.lease is not None
        if flight.lease.prefilling:
            self._pool.generating.prefilled(flight.lease, now_s=time.monotonic())
            if self.waiting.count:
                self.waiting.opened()
        if failed(delta):
            self._failed(flight, delta)
            return
        if flight.handed_s:
            took_s = time.monotonic() - flight.handed_s
            self._pool.prefill.transferred(flight.prefill_worker, flight.worker, flight.moved_tokens, took_s)
            flight.handed_s = 0.0
        if not flight.tokens:
            flight.watch.first_token()
            self.counters.prompt_tokens += len(flight.request.token_ids)
            if delta.prompt_tokens and (items := flight.media_items(self._pool.info.media_tokens)):
                self._media.learn(flight.request.token_ids, items, delta.prompt_tokens)
        flight.account(delta)
        if delta.finish is not None:
            flight.watch.ended(len(flight.tokens))
            self.counters.output_tokens += len(flight.tokens)
            self._pool.generating.answered(len(flight.tokens))
            self.counters.cached_tokens += flight.cached_tokens or 0
            self._over(flight)
        try:
            flight.sink.on_delta(delta)
        except Exception:
            # One sink's fault must not cost the others their tokens; its own sequence is of no use any more. It is told
            # so, for behind it somebody waits.
            log.exception("sink_failed", model=self._model, request=flight.request.request_id)
            self.cancel(flight)
            self._fail(flight, Internal("the server failed; its log has the reason"))

    # Ends, and what is given back at each.

    def _failed(self, flight: Flight, delta: Delta) -> None:
        """Fail a flight in its engine's words, unless only its KV did not arrive."""
        words = endings.words_of_failure(delta)
        if delta.invalid and flight.told:
            # The client's request was good; what could not be taken is what we made of it to go on.
            self._lost(flight, f"{flight.worker} refused to: {words}")
        elif flight.transferred and not flight.tokens and not delta.invalid:
            self._takers.pop(flight.id, None)
            self._prefill_here(flight, f"its KV did not arrive ({words})")
        else:
            self._fail(flight, endings.refused(delta))

    def _move(self, flight: Flight) -> None:
        """Go on with a flight whose worker is lost on another one, where that can be done."""
        lost = flight.lost_worker = flight.worker
        if flight.told and flight.room(self._pool.info.context_tokens) <= 0:
            # Only the word that it is over was lost.
            self._deliver(flight, Delta(flight.id, [], FinishReason.LENGTH))
            return
        why_not = flight.cannot_move(self._spec.moves, self._pool.info.resumes)
        if not why_not and flight.request.worker and not self._pool.coming_back(lost):
            why_not = "it was pinned to that worker"
        if why_not:
            self._lost(flight, why_not)
            return
        if flight.prefill_id:
            self._pool.send(flight.prefill_worker, Abort(flight.prefill_id))
        self._land(flight)
        flight.moves += 1
        self.counters.moved += 1
        if flight.told:
            self.counters.continued += 1
            flight.watch.lost()
        self._dispatch(flight)
        if flight.report is not None and flight.stage in (Stage.PREFILLING, Stage.GENERATING):
            flight.report.because += f"; moved from {lost} after {len(flight.tokens)} tokens"

    def _lost(self, flight: Flight, why_not: str) -> None:
        """Fail a flight whose worker is lost and that cannot go on."""
        self.counters.lost += 1
        self._fail(flight, endings.lost(flight.lost_worker, why_not))

    def _marks(self) -> Iterator[tuple[Flight, tuple[int, int, int]]]:
        """Return the flights that a worker has, with what changes whenever one gets on."""
        for flight in self._flights:
            if flight.stage in (Stage.PREFILLING, Stage.GENERATING):
                yield flight, (flight.prefill_id, flight.id, len(flight.tokens))

    def _overdue(self, flight: Flight) -> None:
        """Give up what a worker does not get on with, though it lives."""
        if flight.stage is Stage.OVER:
            return
        self.counters.overdue += 1
        self._abort(flight)
        if flight.stage is Stage.PREFILLING:
            self._prefill_failed(flight, f"no answer within {self._spec.token_s:g} s")
        else:
            self._fail(flight, endings.overdue(flight.worker, self._spec.token_s))

    def _hold(self, flight: Flight) -> None:
        flight.stage = Stage.HELD
        self.held.hold(flight)

    def _held_too_long(self, flight: Flight) -> None:
        self.waiting.refused[Refusal.NO_WORKER] += 1
        error = endings.no_worker(self._model, self._spec.hold_s)
        if flight.told:
            self._lost(flight, error.message)
        else:
            self._fail(flight, error)

    def _fail(self, flight: Flight, error: InferenceError) -> None:
        self._over(flight)
        try:
            flight.sink.on_failure(error)
        except Exception:
            log.exception("sink_failed", model=self._model, request=flight.request.request_id)

    def _abort(self, flight: Flight) -> None:
        if flight.prefill_id:
            self._pool.send(flight.prefill_worker, Abort(flight.prefill_id))
        if flight.stage is Stage.GENERATING:
            self._pool.send(flight.worker, Abort(flight.id))

    def _over(self, flight: Flight) -> None:
        self._land(flight)
        flight.stage = Stage.OVER
        self._flights.discard(flight)
        self.held.release(flight)
        if self._waiters and (waiter := self._waiters.pop(flight, None)) is not None:
            self.waiting.leave(waiter)
        if self.waiting.count:
            self.waiting.opened()
        if not self._flights:
            self._empty.set()

    def _land(self, flight: Flight) -> None:
        """Give back everything the flight has of its workers."""
        self._end_prefill(flight)
        self._takers.pop(flight.id, None)
        if flight.lease is not None:
            self._pool.generating.book.release(flight.lease)
            flight.lease = None

    def _end_prefill(self, flight: Flight) -> None:
        self._takers.pop(flight.prefill_id, None)
        flight.prefill_id = 0
        if flight.prefill_lease is not None:
            self._pool.prefilling.book.release(flight.prefill_lease)
            flight.prefill_lease = None
