"""A fleet of child processes of which a test is told who got ready and who was lost."""

from typing import NamedTuple

from tritium.cluster.local import LocalFleet
from tritium.cluster.member import WorkerState


class FleetEvent(NamedTuple):
    kind: str
    worker: str
    detail: str


class WatchedFleet(LocalFleet):
    """Tells `on_event` of workers in the moment in which the fleet itself hears of them.

    The kind is worker_ready, worker_lost, or worker_stopped at the end of the fleet.
    """

    def __init__(self, spec, name, on_event):
        super().__init__(spec, name)
        self._on_event = on_event

    def _ready(self, worker):
        self._on_event(FleetEvent("worker_ready", worker.name, ""))
        super()._ready(worker)

    def _lost(self, worker, reason):
        leaves = worker.state in (WorkerState.DRAINING, WorkerState.STOPPED)
        self._on_event(FleetEvent("worker_stopped" if leaves else "worker_lost", worker.name, reason))
        super()._lost(worker, reason)
