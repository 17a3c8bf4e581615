"""A fleet in virtual time: requests on their way through router, waiting room, prefill and decode workers.

    arrive -> [wait -> turn] -> route -> [prefill elsewhere -> transfer] -> worker -> first token -> end -> next turn
       `-> refused

The stages are those of `cluster.flights`, and what decides is the same code: the router of each role, its waiting room,
the desk that says where prompts are computed. Only what carries frames and watches processes is left out.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tritium.backends.engine import Role
from tritium.backends.mocker.scheduler import Sequence
from tritium.backends.mocker.settings import Settings
from tritium.cluster.prefill import AGGREGATED, PrefillDesk
from tritium.cluster.spec import FleetSpec
from tritium.router.admission import RoomFull, Ticket, WaitingRoom
from tritium.router.book import Lease
from tritium.router.choice import Route
from tritium.router.disaggregation import Decoder
from tritium.router.router import Prompt, Router
from tritium.router.tiers import Tier
from tritium.simulation.agenda import Agenda
from tritium.simulation.record import Records
from tritium.simulation.request import NamedContent, Request
from tritium.simulation.worker import SimulatedWorker, Work

_TIERS = {tier.value: tier for tier in Tier}

RouterOf = Callable[[Role], Router]
"""Makes the router of a role."""


@dataclass(slots=True, eq=False)
class Job(Ticket):
    """One request on its way."""

    request: Request = field(kw_only=True)
    prompt: Prompt = field(kw_only=True)
    arrived_s: float = 0.0
    first_s: float = 0.0
    worker: str = ""
    prefill_worker: str = ""
    lease: Lease | None = None
    prefill_lease: Lease | None = None
    cached_tokens: int = 0
    moved_tokens: int = 0
    handed_s: float = 0.0


class SimulatedFleet:
    """The workers of one model and the requests to them. `streams`: so many at once, whatever their times; 0: by time.

    Contract: every request that comes ends once, in `records`.
    """

    def __init__(
        self, spec: FleetSpec, settings: Settings, router_of: RouterOf, requests: Iterator[Request], *, streams: int = 0
    ) -> None:
        self.agenda = Agenda()
        self.records = Records()
        self.workers: dict[str, SimulatedWorker] = {}
        self.roles: dict[str, Role] = {}
        self.prefill = PrefillDesk(spec.thresholds)
        self._spec = spec
        self._settings = settings
        self._requests = requests
        self._streams = streams
        self._numbers = itertools.count(1)
        self._room: WaitingRoom[Job] = WaitingRoom(spec.waiting)
        self._opening = False
        # All who generate have one router, as in `cluster.pool`.
        generates = Role.DECODE if spec.prefill else Role.AGGREGATED
        self._generating = router_of(generates)
        self.routers = {generates: self._generating}
        if spec.prefill:
            self.routers[Role.PREFILL] = router_of(Role.PREFILL)
        for role, count in spec.roles.items():
            for index in range(count):
                self._add(role, f"{'worker' if role is Role.AGGREGATED else role}_{index}")

    def run(self) -> Records:
        """Serve all requests to their end."""
        for _ in range(max(1, self._streams)):
            self._come()
        self.agenda.run()
        return self.records

    def _add(self, role: Role, name: str) -> None:
        router = self.routers[Role.PREFILL] if role is Role.PREFILL else self._generating

        def on_blocks(worker: str, stored: bool, tier: str, blocks: list[int]) -> None:  # noqa: FBT001  (a journal's word)
            if stored:
                router.entered(worker, blocks, tier=_TIERS[tier])
            else:
                router.removed(worker, blocks, tier=_TIERS[tier])

        self.roles[name] = role
        self.workers[name] = SimulatedWorker(name, self._settings, self.agenda, on_blocks)
        most = self._spec.worker_requests or self._settings.limits.sequences
        router.add(name, capacity_blocks=self._settings.blocks, max_sequences=most)

    # The way of a request, in its order.

    def _come(self) -> None:
        """Let the next request come when it is due."""
        request = next(self._requests, None)
        if request is None:
            return
        if self._streams:
            self._arrive(request)
        else:
            self.agenda.at(request.at_s, self._arrive_and_next, request)

    def _arrive_and_next(self, request: Request) -> None:
        self._come()
        self._arrive(request)

    def _arrive(self, request: Request) -> None:
        tokens, block_tokens = request.prompt_tokens, self._settings.block_tokens
        prompt = Prompt(tokens, request.blocks[: tokens // block_tokens])
        size = self._generating.expected_blocks(tokens, request.output_tokens)
        job = Job(request.tenant, size, request=request, prompt=prompt, arrived_s=self.agenda.now_s)
        if tokens + request.output_tokens > self._settings.context:
            self._refuse(job)
        elif len(self._room) or self._generating.full:
            self._wait(job)
        else:
            self._route(job)

    def _wait(self, job: Job) -> None:
        try:
            self._room.enter(job, self.agenda.now_s)
        except RoomFull:
            self._refuse(job)
            return
        if job.until_s < float("inf"):
            self.agenda.at(job.until_s, self._expire)

    def _expire(self) -> None:
        for job in self._room.expire(self.agenda.now_s):
            self._refuse(job)

    def _opened(self) -> None:
        """Let go on, when all that happens now has happened, whoever there is room for."""
        if len(self._room) and not self._opening:
            self._opening = True
            self.agenda.at(self.agenda.now_s, self._let_go)

    def _let_go(self) -> None:
        self._opening = False
        while len(self._room) and not self._generating.full:
            job = self._room.next()
            assert job is not None
            self._route(job)

    def _route(self, job: Job) -> None:
        request, prompt, now_s = job.request, job.prompt, self.agenda.now_s
        router = self._generating
        route = router.choose(prompt, session=request.session)
        job.worker = route.worker
        job.lease = router.lease(route, prompt, max_tokens=request.output_tokens, now_s=now_s)
        if Role.PREFILL in self.routers:
            stays = AGGREGATED if self.roles[route.worker] is Role.AGGREGATED else ""
            plan = self.prefill.decide(prompt, route, router, self.routers[Role.PREFILL], Decoder(stays=stays))
            self.prefill.count(plan)
            if plan.route is not None and plan.decision.remote:
                job.moved_tokens = prompt.tokens - route.overlap_blocks * router.block_tokens
                router.book.prefilled(job.lease)
                self._compute(job, plan.route)
                return
        self._submit(job, remote=False)

    def _compute(self, job: Job, route: Route) -> None:
        """Have a prefill worker compute the prompt."""
        router = self.routers[Role.PREFILL]
        job.prefill_worker = route.worker
        job.prefill_lease = router.lease(route, job.prompt, now_s=self.agenda.now_s)
        tokens = job.prompt.tokens
        sequence = Sequence(next(self._numbers), NamedContent(job.request), tokens, tokens)

        def computed() -> None:
            assert job.prefill_lease is not None
            job.cached_tokens = sequence.cached_tokens or 0
            router.prefilled(job.prefill_lease, now_s=self.agenda.now_s)
            router.release(job.prefill_lease)
            job.handed_s = self.agenda.now_s
            self._submit(job, remote=True)

        self.workers[route.worker].submit(Work(sequence, tokens + 1, _nothing, computed))

    def _submit(self, job: Job, *, remote: bool) -> None:
        """Hand the request to the worker that generates."""
        request = job.request
        tokens = request.prompt_tokens
        sequence = Sequence(next(self._numbers), NamedContent(request), tokens, tokens, remote=remote)
        last = tokens + request.output_tokens

        def first() -> None:
            if not remote:
                job.cached_tokens = sequence.cached_tokens or 0
            self._first(job)

        self.workers[job.worker].submit(Work(sequence, last, first, lambda: self._end(job)))

    def _first(self, job: Job) -> None:
        assert job.lease is not None
        now_s = job.first_s = self.agenda.now_s
        self._generating.prefilled(job.lease, now_s=now_s)
        if job.handed_s:
            self.prefill.transferred(job.prefill_worker, job.worker, job.moved_tokens, now_s - job.handed_s)
        if len(self._room):
            self._opened()

    def _end(self, job: Job) -> None:
        assert job.lease is not None
        request = job.request
        self._generating.release(job.lease)
        self._generating.answered(request.output_tokens)
        self.records.ended(
            request,
            job.worker,
            arrived_s=job.arrived_s,
            first_s=job.first_s,
            ended_s=self.agenda.now_s,
            cached_tokens=job.cached_tokens,
        )
        if len(self._room):
            self._opened()
        self._go_on(request)

    def _refuse(self, job: Job) -> None:
        """End a request that nobody serves; its client does not go on."""
        self.records.refused(job.request)
        if self._streams:
            # Not from within its own arrival: thousands in a row may be refused.
            self.agenda.at(self.agenda.now_s, self._come)

    def _go_on(self, request: Request) -> None:
        """Let a client ask on that has its answer."""
        if request.then is not None:
            self.agenda.at(self.agenda.now_s + request.then.at_s, self._arrive, request.then)
        elif self._streams:
            self._come()


def _nothing() -> None:
    """Nobody waits for the first token of a prefill: it is the last, too."""
