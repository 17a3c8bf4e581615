"""What of a fleet changes while it serves: roles, the router's mode and where prompts are computed.

    "prefill=2,decode=1,local_prefill_tokens=256"      the fleet's own setting, as far as it can change
    {"decode_1": "prefill"}                            the role of one worker by name

Everything is checked before anything changes.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from tritium.backends.engine import Role
from tritium.cluster.pool import WorkerPool
from tritium.cluster.roles import Roles
from tritium.cluster.spec import read_options
from tritium.cluster.standing import FleetReport, RoleChange, WorkerReport
from tritium.core.errors import InvalidArgument
from tritium.router.choice import Mode
from tritium.router.disaggregation import Thresholds

COUNTS = {"workers": Role.AGGREGATED, "prefill": Role.PREFILL, "decode": Role.DECODE}
"""The options that say how many workers have a role."""

THRESHOLDS = tuple(field.name for field in fields(Thresholds))


class FleetChanges:
    """Changes one fleet."""

    def __init__(self, pool: WorkerPool, roles: Roles) -> None:
        self._pool = pool
        self._roles = roles

    async def apply(self, setting: str, workers: Mapping[str, str]) -> list[RoleChange]:
        """Change what the setting and the roles by worker say; see `Roles` for what else may be raised.

        Raises:
            InvalidArgument: an option that is unknown or fixed, or roles that make no fleet; nothing is changed.
        """
        options = read_options(setting)
        counts = {COUNTS[name]: int(options.pop(name)) for name in COUNTS if name in options}
        thresholds = {name: options.pop(name) for name in THRESHOLDS if name in options}
        mode = options.pop("router", None)
        if options:
            raise InvalidArgument(
                f"fleet: {next(iter(options))} is fixed while a model is loaded",
                hint=f"what can change is {', '.join((*COUNTS, 'router', *THRESHOLDS))}",
            )
        if counts and workers:
            raise InvalidArgument("fleet: give numbers of workers or roles by worker, not both")
        named = {name: _role(role) for name, role in workers.items()}
        self._roles.check(named, counts)
        if not counts and not named:
            self._decide_by(thresholds, mode)
            return []
        async with self._roles.alone():
            # Another front may have changed some since; what that was is known by now.
            changes = self._roles.check(named, counts)
            self._decide_by(thresholds, mode)
            return await self._roles.change(changes)

    def _decide_by(self, thresholds: dict[str, Any], mode: object) -> None:
        desk = self._pool.prefill
        known: dict[str, Any] = asdict(desk.thresholds) | thresholds
        desk.thresholds = replace(desk.thresholds, **known)
        if isinstance(mode, Mode):
            self._pool.route_by(mode)

    def report(self, shape: str, changes: list[RoleChange]) -> FleetReport:
        """Tell how the fleet stands, whose workers are `shape` in words."""
        active = {load.name: load.active for router in self._pool.routers.values() for load in router.loads}
        return FleetReport(
            shape,
            self._pool.mode,
            self._pool.prefill.thresholds,
            [
                WorkerReport(worker.name, worker.role, worker.state.value, active.get(worker.name, 0))
                for worker in self._pool.by_name.values()
            ],
            changes,
        )


def shape_of(pool: WorkerPool) -> str:
    """Return how many workers of which role there are, as a person reads it."""
    counts = pool.roles
    if not {Role.PREFILL, Role.DECODE} & counts.keys():
        workers = counts.get(Role.AGGREGATED, 0)
        return f"{workers} worker{'s' * (workers > 1)}"
    shape = " + ".join(
        f"{counts[role]} {role}" for role in (Role.PREFILL, Role.DECODE, Role.AGGREGATED) if role in counts
    )
    tried = (worker.info for worker in pool.by_name.values() if worker.info is not None and worker.info.transfer_path)
    if (info := next(tried, None)) is not None:
        shape += f", KV by {info.transfer} ({info.transfer_path}, {info.transfer_bytes_s / (1 << 30):.2g} GiB/s)"
    return shape


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise InvalidArgument(f"fleet: unknown role '{name}'", hint=f"one of {', '.join(Role)}") from None
