"""Who serves the models of some namespaces: what discovery shows, sorted by model, and who is let in.

    view -> instances by model -> card equal?  -> RemoteWorker in the fleet's pool
                                  `- otherwise -> refused, and told the reason, until it is gone

The first instance of a model that speaks our frames says what the model is; all others must say the same.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from tritium.backends.engine import Role
from tritium.cluster.card import Instance, ModelCard
from tritium.cluster.discovery.contract import Discovery, View
from tritium.cluster.frames import VERSION
from tritium.cluster.member import PoolWorker, WorkerState
from tritium.cluster.plane.refusals import tell_refusal
from tritium.cluster.plane.security import PlaneSecurity
from tritium.cluster.pool import WorkerPool
from tritium.cluster.remote import RemoteWorker

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that somebody serves: what it is, and whether who was found first has a role of prefill and decode."""

    namespace: str
    card: ModelCard
    disaggregated: bool


class Members:
    """The workers of one model, let in and sent away as discovery says."""

    def __init__(
        self, model: FoundModel, security: PlaneSecurity, front: str, on_stranded: Callable[[str], None]
    ) -> None:
        """Make them; `on_stranded` is told when only such are left as serve another model by the same name."""
        self.model = model
        self._on_stranded = on_stranded
        self.refused: dict[str, str] = {}
        """Why each instance that is not let in is not, by its key."""
        self._security = security
        self._front = front
        self._pool: WorkerPool | None = None
        self._instances: dict[str, Instance] = {}
        self._workers: dict[str, RemoteWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Workers of ended runs that are being left, and refusals on their way."""

    @property
    def stranded(self) -> bool:
        """Tell whether only such are left as are not let in."""
        return self._pool is not None and not self._workers and bool(self.refused)

    @property
    def connected(self) -> int:
        """Return how many workers talk to us, announced or not."""
        return sum(worker.connected for worker in self._workers.values())

    @property
    def met(self) -> bool:
        """Tell whether every worker that was let in has been reached, or cannot be."""
        return all(worker.connected or worker.trouble for worker in self._workers.values())

    def join(self, pool: WorkerPool) -> None:
        """Put the workers into a pool, those there are and those that come."""
        self._pool = pool
        self.update(self._instances)

    def leave(self) -> None:
        """Let nobody in any more."""
        self._pool = None
        self._workers.clear()

    def update(self, instances: Mapping[str, Instance]) -> None:
        """Take in who is announced now."""
        self._instances = dict(instances)
        for key in list(self.refused):
            if key not in instances:
                del self.refused[key]
        for key, worker in list(self._workers.items()):
            worker.announce(instances.get(key))
        for key, instance in sorted(instances.items(), key=lambda item: -item[1].started_s):
            if key not in self._workers:
                self._let_in(key, instance)
        if self.stranded:
            self._on_stranded(self.model.card.model)

    def states(self) -> dict[str, int]:
        """Count the workers by state, those included that are not let in."""
        counts = dict.fromkeys([*(state.value for state in WorkerState if state is not WorkerState.STOPPED)], 0)
        for worker in self._workers.values():
            counts[worker.state.value] = counts.get(worker.state.value, 0) + 1
        return {**counts, "refused": len(self.refused)}

    def reconnects(self) -> int:
        """Return how often connections to the workers that are there now were made again."""
        return sum(worker.restarts for worker in self._workers.values())

    def _let_in(self, key: str, instance: Instance) -> None:
        pool = self._pool
        if pool is None:
            return
        reason = self._why_not(instance, pool)
        if reason:
            if self.refused.get(key) != reason:
                log.error("worker_refused", worker=instance.worker, model=instance.model, reason=reason)
                self._spawn(tell_refusal(instance, reason, self._security, self._front))
            self.refused[key] = reason
            return
        self.refused.pop(key, None)
        worker = RemoteWorker(
            instance,
            self._security,
            replace(pool.reports, on_lost=self._lost),
            front=self._front,
            loras=pool.loras,
            silent_s=pool.spec.silent_s,
            load_s=pool.spec.load_s,
            on_gone=self._gone,
        )
        self._workers[key] = worker
        pool.add(worker)
        pool.expect_role(worker.role)
        worker.start()

    def _why_not(self, instance: Instance, pool: WorkerPool) -> str:
        if instance.version != VERSION:
            return _other_version(instance)
        if difference := self.model.card.differs(instance.card):
            return f"its model is another one than that of the workers before it: {difference}"
        ways = {worker.instance.card.info.transfer for worker in self._workers.values()}
        if (way := instance.card.info.transfer) and (others := ways - {way, ""}):
            return f"it moves KV by {way}, and the workers before it by {', '.join(others)}"
        before = pool.by_name.get(instance.worker)
        if (
            isinstance(before, RemoteWorker)
            and before.instance.started_s <= instance.started_s
            and not before.connected
        ):
            # The same worker, started again: what was known of its last run is over.
            self._replace(before)
            return ""
        if before is not None:
            return f"another worker is called {instance.worker}"
        return ""

    def _lost(self, worker: PoolWorker, reason: str) -> None:
        if self._pool is not None:
            self._pool.reports.on_lost(worker, reason)
            # Its next run may be there already, refused because of this one.
            asyncio.get_running_loop().call_soon(lambda: self.update(self._instances))

    def _replace(self, worker: RemoteWorker) -> None:
        self._forget(worker)
        self._spawn(worker.stop(0))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _gone(self, worker: RemoteWorker) -> None:
        self._forget(worker)
        log.info("worker_gone", worker=worker.name, model=worker.instance.model)
        # Its name may be another's now, who was refused for that.
        self.update(self._instances)

    def _forget(self, worker: RemoteWorker) -> None:
        if self._workers.get(worker.instance.key) is worker:
            del self._workers[worker.instance.key]
        # A run that has ended does not come back, however long it is still announced.
        self._instances.pop(worker.instance.key, None)
        if self._pool is not None:
            self._pool.discard(worker)


@dataclass(slots=True)
class _Known:
    members: Members
    instances: dict[str, Instance] = field(default_factory=dict)


class Roll:
    """All models of the namespaces that a front serves; a model in two of them is that of the first.

    `on_found` is told of a model that is there, `on_vanished` of one that nobody serves any more as it was found.
    """

    def __init__(
        self,
        discovery: Discovery,
        namespaces: Sequence[str],
        security: PlaneSecurity,
        *,
        front: str,
        on_found: Callable[[FoundModel], None],
        on_vanished: Callable[[str], None],
    ) -> None:
        self.discovery = discovery
        self.seen = asyncio.Event()
        """Set once every namespace was looked at."""
        self._namespaces = tuple(namespaces)
        self._security = security
        self._front = front
        self._on_found = on_found
        self._on_vanished = on_vanished
        self._views: dict[str, View] = {}
        self._known: dict[str, _Known] = {}
        self._foreign: frozenset[str] = frozenset()
        """Keys of instances of other releases that were told of."""

    def start(self) -> None:
        """Begin to follow."""
        for namespace in self._namespaces:
            self.discovery.follow(namespace, lambda view, namespace=namespace: self._changed(namespace, view))  # type: ignore[misc]  # the default binds it

    def members(self, model: str) -> Members:
        """Return the workers of a model that was found."""
        return self._known[model].members

    def instances(self, model: str) -> Sequence[Instance]:
        """Return who serves a model, as far as discovery shows."""
        known = self._known.get(model)
        return list(known.instances.values()) if known is not None else []

    def all_members(self) -> Sequence[Members]:
        """Return the workers of every model."""
        return [known.members for known in self._known.values()]

    def forget(self, model: str) -> None:
        """Forget a model that is served here no more; when somebody announces it, it is found again."""
        known = self._known.pop(model, None)
        if known is not None and known.instances:
            self._sort()

    def _changed(self, namespace: str, view: View) -> None:
        self._views[namespace] = view
        self._sort()
        if len(self._views) == len(self._namespaces):
            self.seen.set()

    def _sort(self) -> None:
        by_model: dict[str, dict[str, Instance]] = {}
        owner: dict[str, str] = {}
        for namespace in self._namespaces:
            for key, instance in self._views.get(namespace, {}).items():
                if owner.setdefault(instance.model, namespace) == namespace:
                    by_model.setdefault(instance.model, {})[key] = instance
        for model, known in list(self._known.items()):
            had = bool(known.instances)
            known.instances = by_model.pop(model, {})
            known.members.update(known.instances)
            if had and not known.instances:
                self._on_vanished(model)
        for model, instances in by_model.items():
            understood = [one for one in instances.values() if one.version == VERSION]
            if not understood:
                self._tell_foreign(model, instances)
                continue
            first = min(understood, key=lambda one: (one.started_s, one.key))
            found = FoundModel(owner[model], first.card, first.role is not Role.AGGREGATED)
            self._known[model] = _Known(Members(found, self._security, self._front, self._on_vanished), instances)
            self._known[model].members.update(instances)
            self._on_found(found)

    def _tell_foreign(self, model: str, instances: Mapping[str, Instance]) -> None:
        """Say once of each instance of another release why its model is not served."""
        for key, instance in instances.items():
            if key not in self._foreign:
                log.error("worker_refused", worker=instance.worker, model=model, reason=_other_version(instance))
        self._foreign = self._foreign | instances.keys()


def _other_version(instance: Instance) -> str:
    return f"it speaks frames of version {instance.version}, this front of version {VERSION}"
