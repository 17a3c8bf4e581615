"""A worker as its pool sees it, wherever it runs.

    STARTING --on_ready--> READY --on_lost--> WAITING --on_ready--> READY ...        (comes back empty)
                             |
                             +--on_draining--> DRAINING --on_lost--> STOPPED         (leaves for good)

`cluster.supervisor` has the one that is a child process over a socket pair; `cluster.remote` the one that discovery
found, over a Unix socket or TCP.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tritium.backends.engine import EngineInfo, MetricFamily, Pooled, Role, Step
from tritium.cluster.frames import CacheChanged, CacheDump, Elsewhere, Gauges, ToWorker


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"
    DRAINING = "draining"
    STOPPED = "stopped"


class PoolWorker(Protocol):
    """One worker of a pool.

    Contract: `on_ready` and `on_lost` of its reports alternate; between them `on_frame` gives what it tells.
    After `on_draining` it takes nothing new and finishes what it has. `info` is known from the first `on_ready` on.
    """

    name: str
    role: Role
    state: WorkerState
    info: EngineInfo | None
    restarts: int
    hung: int
    """How often it was given up because it, or its engine, did nothing any more."""
    gauges: dict[str, float]
    run: str
    """What its changes are told by where that is not by its connection; empty for one that is ours alone."""

    @property
    def ready(self) -> bool:
        """Tell whether the worker takes requests."""
        ...

    @property
    def own_metrics(self) -> list[MetricFamily]:
        """Return the metrics that the engine keeps itself, as it last told them."""
        ...

    def send(self, *frames: ToWorker) -> None:
        """Send frames in one write; they are dropped when the worker is gone, of which `on_lost` tells.

        Raises:
            OverflowError, TypeError, UnicodeError, RecursionError: a frame cannot be written.
        """
        ...

    async def load_lora(self, name: str, path: str) -> None:
        """Load an adapter in the present run.

        Raises:
            InferenceError: the engine does not take it, or the worker was lost meanwhile.
        """
        ...

    async def unload_lora(self, name: str) -> None:
        """Forget an adapter in the present run; raises as `load_lora` does."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Be done with the worker, after what runs there for us has had `grace_s` to finish."""
        ...


Told = Step | Pooled | CacheChanged | CacheDump | Elsewhere | Gauges
"""What a ready worker tells that its pool is to know."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom a worker tells what becomes of it; `on_lost` with the reason."""

    on_ready: Callable[[PoolWorker], None]
    on_lost: Callable[[PoolWorker, str], None]
    on_frame: Callable[[PoolWorker, Told], None]
    on_draining: Callable[[PoolWorker], None] = lambda _: None
    on_role: Callable[[PoolWorker, Role], None] = lambda *_: None
    """It is to have this role from now on."""
    on_missed: Callable[[PoolWorker, int], None] = lambda *_: None
    """So many beats have gone by without a sign of life of the worker; 0: there is one again."""
