"""How a fleet stands, for those who ask and those who have just changed it."""

from dataclasses import dataclass

from tritium.backends.engine import Role
from tritium.router.choice import Mode
from tritium.router.disaggregation import Thresholds


@dataclass(frozen=True, slots=True)
class RoleChange:
    """What became of one worker's role; `restarted` where its process had to be another, `error` why it kept it."""

    worker: str
    before: Role
    after: Role
    restarted: bool
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker of a fleet; `active` are the requests that this server has there."""

    worker: str
    role: Role
    state: str
    active: int


@dataclass(frozen=True, slots=True)
class FleetReport:
    """A fleet, and what was just changed of its roles."""

    shape: str
    router: Mode
    thresholds: Thresholds
    workers: list[WorkerReport]
    changes: list[RoleChange]
