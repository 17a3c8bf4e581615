"""Which worker takes which role, and how it gets there without losing a request.

    in place   (its engine can)   leaves one router, joins the other; what it still streams ends there
    by restart                    leaves its router --drained--> process replaced --Ready--> joins the other router
                                        `--not drained within drain_s--> joins its old router again, refused
    started elsewhere             is asked; tells every front, or drains, starts itself anew and is found again

One change at a time, so that all other workers serve meanwhile; of several fronts, one at a time.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict

import msgspec
import structlog

from tritium.backends.engine import Role
from tritium.cluster.frames import Load
from tritium.cluster.pool import WorkerPool
from tritium.cluster.remote import RemoteWorker
from tritium.cluster.standing import RoleChange
from tritium.cluster.supervisor import SupervisedWorker
from tritium.core.errors import InferenceError, InvalidArgument, NotFound, Unavailable, WorkerLost

_LOOK_S = 0.02
"""How often a draining worker is looked at: what ends there is told to many, and to nobody here."""

log = structlog.get_logger(__name__)


def plan_roles(
    current: Mapping[str, Role], active: Mapping[str, float], wanted: Mapping[Role, int]
) -> list[tuple[str, Role]]:
    """Return the fewest changes that lead to the wanted numbers: idlest workers first, and who generates before others.

    Raises:
        InvalidArgument: the numbers are not those of the workers, or leave prefill or decode without the other.
    """
    check_roles(wanted)
    if sum(wanted.values()) != len(current):
        asked = " + ".join(f"{count} {role}" for role, count in wanted.items() if count)
        raise InvalidArgument(
            f"the fleet has {len(current)} worker{'s' * (len(current) != 1)}, and {asked} are {sum(wanted.values())}",
            hint="roles change while a model serves; for more or fewer workers load it anew, "
            "or start and end some where they were found",
        )
    missing = [
        role
        for role in (Role.AGGREGATED, Role.DECODE, Role.PREFILL)
        for _ in range(wanted.get(role, 0) - list(current.values()).count(role))
    ]
    spare = []
    for role in Role:
        holders = sorted((name for name in current if current[name] is role), key=lambda name: active.get(name, 0))
        spare += holders[: max(0, len(holders) - wanted.get(role, 0))]
    return list(zip(sorted(spare, key=lambda name: active.get(name, 0)), missing, strict=True))


def check_roles(wanted: Mapping[Role, int]) -> None:
    """Refuse roles that make no fleet.

    Raises:
        InvalidArgument: prefill without decode, decode without prefill, or nobody at all.
    """
    prefill, decode = wanted.get(Role.PREFILL, 0), wanted.get(Role.DECODE, 0)
    if bool(prefill) != bool(decode):
        raise InvalidArgument(
            "fleet: a disaggregated fleet needs at least one prefill and one decode worker",
            hint="write prefill=1,decode=1",
        )
    if not prefill and not wanted.get(Role.AGGREGATED, 0):
        raise InvalidArgument("fleet: workers=0 leaves nobody to answer", hint="write workers=1")


class Roles:
    """The roles of a pool's workers. `busy` counts what a worker still does for requests."""

    def __init__(self, pool: WorkerPool, busy: Callable[[str], int]) -> None:
        self.changed = 0
        self.kept = 0
        """How many roles were changed from here, and how many could not be."""
        self._pool = pool
        self._busy = busy
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Let nobody else change roles meanwhile, here and in other fronts that have found the same workers.

        Raises:
            Unavailable: somebody does already, or a worker does not say.
        """
        if self._lock.locked():
            raise Unavailable("another change of roles is under way", hint="retry when it is done")
        async with self._lock, AsyncExitStack() as held:
            # By name: of two fronts that begin at once, one holds the first worker, and the other goes away.
            for _, worker in sorted(self._pool.by_name.items()):
                if isinstance(worker, RemoteWorker) and worker.ready:
                    try:
                        await worker.roles.hold()
                    except WorkerLost:
                        continue
                    held.callback(worker.roles.let)
            yield

    def check(self, workers: Mapping[str, Role], counts: Mapping[Role, int]) -> list[tuple[str, Role]]:
        """Return what has to change for workers to have the roles named, or for roles to have so many workers.

        Raises:
            NotFound: there is no such worker.
            InvalidArgument: the roles make no fleet.
        """
        current = {worker.name: worker.role for worker in self._pool.by_name.values()}
        if unknown := [name for name in workers if name not in current]:
            raise NotFound(f"the model has no worker '{unknown[0]}'", hint=f"one of {', '.join(sorted(current))}")
        if counts:
            return plan_roles(current, self._activity(), counts)
        if not workers:
            return []
        after = [workers.get(name, role) for name, role in current.items()]
        check_roles({role: after.count(role) for role in Role})
        return [(name, role) for name, role in workers.items() if current[name] is not role]

    async def change(self, changes: list[tuple[str, Role]]) -> list[RoleChange]:
        """Give workers their roles, one after the other; once one could not take its role, the rest keep theirs.

        What became of each is returned, as long as any has changed.

        Raises:
            Unavailable: the first is not ready, does not drain, or does not answer; it keeps its role.
            InferenceError: it cannot be started in its role, in its words; it has its old one again.
        """
        before = {worker.name: worker.role for worker in self._pool.by_name.values()}
        done: list[RoleChange] = []
        kept = ""
        for name, role in changes:
            began_s = time.monotonic()
            error, restarted = kept, False
            if not kept:
                try:
                    restarted = await self._give(name, role)
                    self.changed += 1
                except InferenceError as refusal:
                    self.kept += 1
                    if not done:
                        raise
                    error, kept = refusal.told, f"not tried, for {name} kept its role"
            seconds = round(time.monotonic() - began_s, 3)
            done.append(RoleChange(name, before[name], before[name] if error else role, restarted, seconds, error))
            told = log.warning if error else log.info
            told("role_kept" if error else "role_changed", **asdict(done[-1]))
        return done

    def _activity(self) -> dict[str, float]:
        """Count what goes on at each worker, for all fronts as far as that is known; who is not ready changes last."""
        routed = {load.name: load.active for router in self._pool.routers.values() for load in router.loads}
        return {
            name: max(self._busy(name), routed.get(name, 0)) if worker.ready else math.inf
            for name, worker in self._pool.by_name.items()
        }

    async def _give(self, name: str, role: Role) -> bool:
        """Have a worker take a role; tell whether its process had to be another."""
        worker = self._pool.by_name.get(name)
        if worker is None:
            raise Unavailable(f"worker {name} has left", hint="look how the fleet stands, and ask again")
        if not worker.ready or worker.info is None:
            raise Unavailable(f"worker {name} is {worker.state}, and keeps its role", hint="retry when it is ready")
        if isinstance(worker, RemoteWorker):
            restarts = await worker.roles.take(role)
            if restarts:
                await self._found_again(worker, role)
            return restarts
        assert isinstance(worker, SupervisedWorker)
        if role not in worker.info.roles:
            await self._restart(worker, role)
            self._pool.settle_roles()
            return True
        worker.load = _in_role(worker, role)
        self._pool.give_role(worker, role)
        return False

    async def _found_again(self, worker: RemoteWorker, role: Role) -> None:
        """Wait until a worker that starts itself anew has been found in its role.

        Raises:
            Unavailable: it has not within `load_s`, or came back in another role.
        """
        bound_s = self._pool.spec.load_s
        try:
            async with asyncio.timeout(bound_s or None):
                while (again := self._pool.by_name.get(worker.name)) is None or again is worker or not again.ready:  # noqa: ASYNC110  it is told to many, and to nobody here
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise Unavailable(
                f"worker {worker.name} left to start as {role}, and has not come back within {bound_s:g} s",
                hint="its own log says why",
            ) from None
        if again.role is not role:
            raise Unavailable(
                f"worker {worker.name} could not be started as {role}, and is {again.role}", hint="its own log says why"
            )
        self._pool.settle_roles()

    async def _restart(self, worker: SupervisedWorker, role: Role) -> None:
        self._pool.leave_router(worker)
        try:
            async with asyncio.timeout(self._pool.spec.drain_s):
                while self._busy(worker.name):
                    await asyncio.sleep(_LOOK_S)
                    # It may have died meanwhile, come back and joined its router.
                    self._pool.leave_router(worker)
        except TimeoutError:
            self._pool.join_router(worker)
            left, waited_s = self._busy(worker.name), self._pool.spec.drain_s
            raise Unavailable(
                f"worker {worker.name} still has {left} requests after {waited_s:g} s, and keeps its role",
                hint="retry when they are done, or raise drain_s in the fleet's setting",
            ) from None
        except BaseException:
            self._pool.join_router(worker)
            raise
        # Asked to stop when it has nothing to do: the next one takes its place, under its name.
        await worker.stop(0)
        try:
            await self._pool.replace(_in_role(worker, role))
        except InferenceError as error:
            log.warning("role_refused", worker=worker.name, role=role, error=error.message)
            await self._pool.replace(worker.load)
            raise


def _in_role(worker: SupervisedWorker, role: Role) -> Load:
    return msgspec.structs.replace(worker.load, role=role, mixed=True)
