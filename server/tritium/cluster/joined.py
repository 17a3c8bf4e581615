"""A fleet whose workers are found by discovery: this front started none of them, and ends none.

join_fleet -> routed like any other; workers come and go -> close: this front leaves them
"""

import secrets
from dataclasses import replace

from tritium.backends.engine import Role
from tritium.cluster.adapters import Adapters
from tritium.cluster.events.subscriber import EventSubscriber
from tritium.cluster.local import LocalFleet
from tritium.cluster.roll import Members
from tritium.cluster.samples import Sample
from tritium.cluster.spec import FleetSpec


class JoinedFleet(LocalFleet):
    """A Fleet (see `cluster.fleet`) of discovered workers. Make one with `join_fleet`."""

    def __init__(
        self,
        spec: FleetSpec,
        members: Members,
        events: EventSubscriber | None,
    ) -> None:
        super().__init__(spec, members.model.card.model, info=members.model.card.info)
        self._members = members
        # Another front, or this one in an earlier life, may have loaded other weights by the same name.
        self.adapters = Adapters(self.workers, stamp=f"{secrets.token_hex(4)}.")
        self.workers.scatter = True
        self.workers.events = events
        members.join(self.workers)

    @property
    def shape(self) -> str:
        """Return how many workers of which role are ready."""
        ready = [worker.role for worker in self.workers.by_name.values() if worker.ready]
        if not {Role.PREFILL, Role.DECODE} & self.workers.roles.keys():
            return f"{len(ready)} worker{'s' * (len(ready) != 1)} found"
        shown = [Role.PREFILL, Role.DECODE, *([Role.AGGREGATED] if Role.AGGREGATED in ready else [])]
        return " + ".join(f"{ready.count(role)} {role}" for role in shown) + " found"

    def metrics(self) -> list[Sample]:
        """Return samples as (name, labels, value)."""
        model = {"model": self.name}
        counts = [
            ("tritium_workers", {**model, "state": state}, float(n)) for state, n in self._members.states().items()
        ]
        return [*super().metrics(), *counts, ("tritium_worker_reconnects_total", model, self._members.reconnects())]

    async def close(self) -> None:
        """Finish what runs, then leave every worker."""
        self._members.leave()
        await super().close()


def join_fleet(spec: FleetSpec, members: Members, *, events: EventSubscriber | None = None) -> JoinedFleet:
    """Serve a model by the workers that discovery finds, those to come included; returns at once.

    Changes of their caches come by `events`, or by the workers' own connections. Of the setting, what says how many
    workers there are does not count.
    """
    if members.model.disaggregated:
        return JoinedFleet(replace(spec, workers=0, prefill=1, decode=1), members, events)
    return JoinedFleet(replace(spec, workers=1, prefill=0, decode=0), members, events)
