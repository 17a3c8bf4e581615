"""Which worker takes which role, and how it gets there without losing a request.

    in place   (its engine can)   leaves one router, joins the other; what it still streams ends there
    by restart                    leaves its router --drained--> process replaced --Ready--> joins the other router
                                        `--not drained within drain_s--> joins its old router again, refused

One change at a time, so that all other workers serve meanwhile.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog

from tritium.backends.engine import Role
from tritium.cluster.frames import Load
from tritium.cluster.pool import WorkerPool
from tritium.cluster.standing import RoleChange
from tritium.cluster.supervisor import SupervisedWorker
from tritium.core.errors import InferenceError, InvalidArgument, NotFound, Unavailable

_LOOK_S = 0.02
"""How often a draining worker is looked at: what ends there is told to many, and to nobody here."""

log = structlog.get_logger(__name__)


def plan_roles(
    current: Mapping[str, Role], active: Mapping[str, int], wanted: Mapping[Role, int]
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
        self._pool = pool
        self._busy = busy
        self._lock = asyncio.Lock()

    def check(self, workers: Mapping[str, Role], counts: Mapping[Role, int]) -> list[tuple[str, Role]]:
        """Return what has to change for workers to have the roles named, or for roles to have so many workers.

        Raises:
            NotFound: there is no such worker.
            InvalidArgument: the roles make no fleet, or a worker's role is not ours to change.
        """
        current = {worker.name: worker.role for worker in self._pool.by_name.values()}
        if unknown := [name for name in workers if name not in current]:
            raise NotFound(f"the model has no worker '{unknown[0]}'", hint=f"one of {', '.join(sorted(current))}")
        if counts:
            changes = plan_roles(current, {name: self._busy(name) for name in current}, counts)
        elif not workers:
            changes = []
        else:
            after = [workers.get(name, role) for name, role in current.items()]
            check_roles({role: after.count(role) for role in Role})
            changes = [(name, role) for name, role in workers.items() if current[name] is not role]
        for name, _ in changes:
            if not isinstance(self._pool.by_name[name], SupervisedWorker):
                raise InvalidArgument(
                    f"worker {name} was started elsewhere, with its role", hint="start it again in another role there"
                )
        return changes

    async def change(self, changes: list[tuple[str, Role]]) -> list[RoleChange]:
        """Give workers their roles, one after the other.

        Raises:
            Unavailable: another change is under way, or a worker is not ready or does not drain; it keeps its role.
            InferenceError: a worker cannot be started in its role, in its words; it has its old one again.
        """
        if self._lock.locked():
            raise Unavailable("another change of roles is under way", hint="retry when it is done")
        done = []
        async with self._lock:
            for name, role in changes:
                done.append(await self._give(name, role))
                self._pool.settle_roles()
        return done

    async def _give(self, name: str, role: Role) -> RoleChange:
        worker = self._pool.by_name[name]
        assert isinstance(worker, SupervisedWorker)
        if not worker.ready or worker.info is None:
            raise Unavailable(f"worker {name} is {worker.state}, and keeps its role", hint="retry when it is ready")
        before, began_s = worker.role, time.monotonic()
        in_place = role in worker.info.roles
        if in_place:
            worker.load = _in_role(worker, role)
            self._pool.leave_router(worker)
            worker.role = role
            self._pool.join_router(worker)
        else:
            await self._restart(worker, role)
        change = RoleChange(name, before, role, not in_place, round(time.monotonic() - began_s, 3))
        log.info("role_changed", worker=name, before=before, after=role, restarted=not in_place, seconds=change.seconds)
        return change

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
