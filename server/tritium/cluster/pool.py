"""The workers of a fleet with the routers that follow them, one router a role.

    add -> worker ready    -> joins its role's router -> events of its cache -> index
           worker draining -> leaves the router, finishes what it has
           worker lost     -> leaves the router, its blocks with it          -> comes back empty, or: discard

Workers join and leave while the pool runs. It knows nothing of requests; `cluster.flights` does.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from tritium.backends.engine import (
    EngineInfo,
    Pooled,
    Role,
    Step,
)
from tritium.cluster.elsewhere import OtherFronts
from tritium.cluster.events.subscriber import EventSubscriber
from tritium.cluster.following import CacheFollower
from tritium.cluster.frames import VERSION, AskCache, CacheChanged, CacheDump, Elsewhere, Gauges, Load, ToWorker
from tritium.cluster.member import PoolWorker, Reports, Told, WorkerState
from tritium.cluster.prefill import AGGREGATED, PrefillDesk, PrefillPlan
from tritium.cluster.spec import FleetSpec
from tritium.cluster.supervisor import SupervisedWorker
from tritium.router.choice import Mode, Route
from tritium.router.disaggregation import Decoder
from tritium.router.router import Prompt, Router

log = structlog.get_logger(__name__)


class WorkerPool:
    """All workers of one model.

    Contract: `on_ready` and `on_lost` are called after the router has been told, so that a request routed from
    within them finds the truth.
    """

    def __init__(
        self,
        spec: FleetSpec,
        *,
        on_step: Callable[[Step], None],
        on_pooled: Callable[[Pooled], None],
        on_ready: Callable[[PoolWorker], None],
        on_lost: Callable[[PoolWorker, str], None],
        info: EngineInfo | None = None,
    ) -> None:
        """Make a pool without workers; `info` is what their engine says of itself, if known before one is ready."""
        self.spec = spec
        self.by_name: dict[str, PoolWorker] = {}
        self.routers: dict[Role, Router] = {}
        self.elsewhere: dict[str, OtherFronts] = {}
        """What other fronts have each of them do."""
        self.followers: dict[str, CacheFollower] = {}
        """What follows the cache of each worker that is ready."""
        self.loras: dict[str, str] = {}
        """The adapters that every run of a worker has: path by the name that the engines know."""
        self.prefill = PrefillDesk(spec.thresholds)
        self.events: EventSubscriber | None = None
        """Brings changes of caches, where they do not come by the workers' own connections."""
        self.scatter = False
        """Other fronts choose among the same workers: begin elsewhere than they where all are equal."""
        self.mode = spec.router
        self.roles: Mapping[Role, int] = spec.roles
        """How many workers each role has, or is to have."""
        self._generating = Role.DECODE if spec.prefill else Role.AGGREGATED
        self._info = info
        self._on_step = on_step
        self._on_pooled = on_pooled
        self._on_ready = on_ready
        self._on_lost = on_lost
        self.reports = Reports(
            self.join_router, self._leave, self._take, self.leave_router, self.give_role, self._missed
        )
        """What every worker of the pool reports to."""

    @property
    def info(self) -> EngineInfo:
        """Return what the engine says of itself; known once a worker was ready."""
        assert self._info is not None
        return self._info

    @property
    def ready(self) -> bool:
        """Tell whether somebody generates, and in a fleet with prefill workers somebody prefills."""
        if not self.routers.get(self._generating):
            return False
        return Role.PREFILL not in self.roles or bool(self.routers.get(Role.PREFILL))

    def computes_prompts(self, worker: str) -> bool:
        """Tell whether a worker that generates can compute prompts itself."""
        info = self.by_name[worker].info if worker in self.by_name else None
        return info is None or info.computes_prompts

    @property
    def generating(self) -> Router:
        """Return the router of the workers that stream tokens."""
        return self._router(self._generating)

    @property
    def prefilling(self) -> Router:
        """Return the router of the workers that only prefill."""
        return self._router(Role.PREFILL)

    def route_by(self, mode: Mode) -> None:
        """Have all routers choose by another mode from now on."""
        self.mode = mode
        for router in self.routers.values():
            router.mode = mode

    def coming_back(self, worker: str) -> bool:
        """Tell whether this is one of ours that is not ready now, and will be."""
        return worker in self.by_name and self.by_name[worker].state in (WorkerState.STARTING, WorkerState.WAITING)

    def plan_prefill(self, prompt: Prompt, route: Route, *, stays: str = "") -> PrefillPlan | None:
        """Decide where a prompt is computed that goes to the worker of `route`; None in aggregated fleets.

        `stays` says why that can only be there, "" where it may be elsewhere.
        """
        if Role.PREFILL not in self.roles and self.computes_prompts(route.worker):
            return None
        if self.by_name[route.worker].role is Role.AGGREGATED:
            stays = stays or AGGREGATED
        decoder = Decoder(stays=stays, computes=self.computes_prompts(route.worker))
        return self.prefill.decide(prompt, route, self.generating, self.prefilling, decoder)

    def add(self, worker: PoolWorker) -> None:
        """Take a worker in; it is given requests from when it is ready."""
        self.by_name[worker.name] = worker

    def discard(self, worker: PoolWorker) -> None:
        """Forget a worker that is gone for good."""
        if self.by_name.get(worker.name) is worker:
            del self.by_name[worker.name]

    def leave_router(self, worker: PoolWorker) -> None:
        """Give a worker nothing new; what it has goes on. Harmless when repeated."""
        if (others := self.elsewhere.pop(worker.name, None)) is not None:
            others.close()
        self._router(worker.role).remove(worker.name)
        if (follower := self.followers.pop(worker.name, None)) is not None:
            follower.close()
        if self.events is not None:
            self.events.leave(worker.run)

    def join_router(self, worker: PoolWorker) -> None:
        """Give a worker that is ready what its role has to do."""
        info = worker.info
        assert info is not None
        self._info = self._info or info
        if info.transfer_path:
            gib_s = round(info.transfer_bytes_s / (1 << 30), 3)
            log.info("kv_transfer", by=info.transfer, path=info.transfer_path, gib_s=gib_s, worker=worker.name)
        most = self.spec.worker_requests or info.max_sequences
        router = self._router(worker.role)
        router.add(worker.name, capacity_blocks=info.total_blocks, max_sequences=most)
        self.elsewhere[worker.name] = OtherFronts(router, worker.name)
        here = self.events is None or not worker.run
        follower = CacheFollower(router, worker.name, lambda: worker.send(AskCache(here)))
        self.followers[worker.name] = follower
        if self.events is not None:
            self.events.follow(worker.run, follower.hear)
        self._on_ready(worker)

    async def replace(self, load: Load) -> None:
        """Start the worker that a first frame is for in the place of the one of that name, which has stopped.

        Raises:
            InferenceError: in the words of the engine.
        """
        successor = SupervisedWorker(
            load, self.reports, loras=self.loras, silent_s=self.spec.silent_s, load_s=self.spec.load_s
        )
        self.add(successor)
        await successor.start()

    def give_role(self, worker: PoolWorker, role: Role) -> None:
        """Have a worker do what another role does, from now on; what it streams ends there."""
        log.info("role_taken", worker=worker.name, before=worker.role, after=role)
        serves = worker.name in self.followers
        if serves:
            self.leave_router(worker)
        worker.role = role
        self.settle_roles()
        if serves:
            self.join_router(worker)

    def expect_role(self, role: Role) -> None:
        """Count on one more worker of a role, until roles are settled anew."""
        self.roles = {**self.roles, role: self.roles.get(role, 0) + 1}

    def settle_roles(self) -> None:
        """Take the roles that the workers have now for those they are to have."""
        counts = Counter(worker.role for worker in self.by_name.values())
        self.roles = {role: counts[role] for role in Role if counts[role]}

    async def start(self, engine: str, folder: Path, arguments: Mapping[str, Any]) -> None:
        """Start every worker of the setting as a child process; when one cannot start, none stays.

        Raises:
            InferenceError: in the words of the first worker that failed.
        """
        total = sum(self.spec.roles.values())
        children: list[SupervisedWorker] = []
        for role, count in self.spec.roles.items():
            for index in range(count):
                name = f"{'worker' if role is Role.AGGREGATED else role}_{index}"
                load = Load(
                    VERSION,
                    engine,
                    str(folder),
                    dict(arguments),
                    role,
                    name,
                    len(children),
                    total,
                    stuck_s=self.spec.stuck_s,
                    canary_s=self.spec.canary_s,
                    mixed=self.spec.prefill > 0,
                    path=self.spec.transfer,
                    check_transfer=self.spec.prefill > 0 and not children,
                )
                children.append(
                    SupervisedWorker(
                        load, self.reports, loras=self.loras, silent_s=self.spec.silent_s, load_s=self.spec.load_s
                    ),
                )
                self.add(children[-1])
        starting = [asyncio.create_task(worker.start()) for worker in children]
        try:
            await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await self.stop()
            raise

    async def stop(self) -> None:
        """Be done with every worker."""
        await asyncio.gather(*(worker.stop(0) for worker in list(self.by_name.values())))

    def send(self, worker: str, *frames: ToWorker) -> None:
        """Send frames to a worker by name; they are dropped when it is gone."""
        if (member := self.by_name.get(worker)) is not None:
            member.send(*frames)

    def _router(self, role: Role) -> Router:
        """Return the router of a role; all who generate have one."""
        role = role if role is Role.PREFILL else self._generating
        router = self.routers.get(role)
        if router is None:
            block_tokens = self.info.block_tokens
            router = self.routers[role] = Router(
                block_tokens,
                self.mode,
                assumed_s=self.spec.assumed_s,
                most_prefill_tokens=self.spec.worker_prefill_tokens,
                scatter=self.scatter,
            )
        return router

    def _missed(self, worker: PoolWorker, beats: int) -> None:
        self._router(worker.role).suspect(worker.name, beats)

    def _leave(self, worker: PoolWorker, reason: str) -> None:
        self.prefill.forget(worker.name)
        self.leave_router(worker)
        self._on_lost(worker, reason)

    def _take(self, worker: PoolWorker, frame: Told) -> None:
        if isinstance(frame, Step):
            self._on_step(frame)
            return
        if isinstance(frame, Pooled):
            self._on_pooled(frame)
            return
        follower = self.followers.get(worker.name)
        if follower is None:
            # It drains, and is given nothing any more.
            return
        match frame:
            case CacheChanged():
                follower.hear(frame)
            case CacheDump():
                follower.heal(frame)
            case Elsewhere():
                self.elsewhere[worker.name].take(frame)
            case Gauges():
                follower.told(frame.last_change)
