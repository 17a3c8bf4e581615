"""Loading models onto the shelf: members before their ensembles, the new one beside the old, then the swap.

LOADING --every version opened--> READY; what served before is retired
   +-----one failed-------------> the new versions are dropped; what served before goes on serving
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from tritium.compat.config import messages
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.problem import Stage
from tritium.core.model import State
from tritium.repository.candidate import Candidate, Rules
from tritium.repository.draining import Draining, Retired
from tritium.repository.ensembles import EnsembleLoader, fit_members
from tritium.repository.events import ModelEvent, describe_instances
from tritium.repository.loader import ChangingLoader, Loader, Offer, offer_nothing
from tritium.repository.opening import Failed, Opened, change_instances, open_version
from tritium.repository.settings import RegistrySettings
from tritium.repository.shelf import Record, Shelf, Shelved


class Loading:
    """Loads, fits again and takes down the models of one shelf. Callers keep two loads of one model apart."""

    def __init__(
        self,
        shelf: Shelf,
        loaders: Mapping[str, Loader],
        rules: Rules,
        settings: RegistrySettings,
        on_event: Callable[[ModelEvent], None],
        offer: Offer = offer_nothing,
    ) -> None:
        self._shelf = shelf
        self._loaders = loaders
        self._rules = rules
        self._slots = asyncio.Semaphore(max(1, settings.load_threads))
        self._retries = settings.load_retries
        self._wait_s = settings.unload_wait_s
        self._on_event = on_event
        self._offer = offer
        self.draining = Draining(self._closed)

    async def load(self, candidates: Mapping[str, Candidate], explicit: Collection[str]) -> dict[str, str]:
        """Load models and fit the ensembles again that use them; return the reason of each, empty where it is ready.

        `explicit` are those asked for by their own name.
        """
        retired: list[Retired] = []
        try:
            reasons = await self._load_all(candidates, explicit, retired)
            users = {key: self._shelf.records[key].candidate.again() for key in self.users(candidates)}
            if users:
                await self._load_all(users, (), retired)
        finally:
            self.draining.retire(retired)
        return reasons

    def users(self, names: Collection[str]) -> list[str]:
        """Return the wanted ensembles that contain any of these models, directly or through another ensemble."""
        users: dict[str, list[str]] = {}
        for key, record in self._shelf.records.items():
            if record.wanted and record.candidate.backend == ENSEMBLE and key not in names:
                for member in record.candidate.members:
                    users.setdefault(member, []).append(key)
        found: dict[str, None] = {}
        waiting = list(names)
        while waiting:
            using = [user for user in users.get(waiting.pop(), ()) if user not in found]
            found |= dict.fromkeys(using)
            waiting += using
        return list(found)

    def take_down(self, names: Collection[str]) -> None:
        """Stop giving requests to models, and let them finish those they have."""
        retired: list[Retired] = []
        for name in names:
            self._retire(name, retired)
        self.draining.retire(retired)

    async def _load_all(
        self, candidates: Mapping[str, Candidate], explicit: Collection[str], retired: list[Retired]
    ) -> dict[str, str]:
        tasks: dict[str, asyncio.Task[str]] = {}

        async def one(candidate: Candidate) -> str:
            # An ensemble that is part of itself has a problem of stage GRAPH; it would wait for ever.
            members = [] if candidate.first(Stage.GRAPH) else [m for m in candidate.members if m in tasks]
            reasons = {member: await tasks[member] for member in members}
            return await self._load_model(candidate, reasons, retired, explicit=candidate.key in explicit)

        async with asyncio.TaskGroup() as group:
            for name, candidate in candidates.items():
                tasks[name] = group.create_task(one(candidate))
        return {name: task.result() for name, task in tasks.items()}

    async def _load_model(
        self, candidate: Candidate, members: Mapping[str, str], retired: list[Retired], *, explicit: bool
    ) -> str:
        if problem := candidate.first(Stage.POLL):
            return self._refuse(candidate, problem.message)
        if owner := self._shelf.owner(candidate.name):
            return self._refuse(candidate, f"its name '{candidate.name}' is an alias of model '{owner}'")
        record = self._shelf.enter(candidate)
        record.wanted, record.explicit = True, record.explicit or explicit
        problem = candidate.first(Stage.GRAPH)
        if reason := problem.message if problem else fit_members(candidate, self._shelf, members):
            record.candidate = candidate
            self._retire(candidate.key, retired)
            return self._refuse(candidate, reason)
        record.reached = True
        if not candidate.versions:
            return self._refuse(candidate, messages.no_version(candidate.key))
        kept = self._kept(record, candidate)
        if kept and (failed := await self._change_instances(record, candidate, kept)):
            return failed
        for version in candidate.versions:
            if version not in kept:
                if version not in record.versions or record.versions[version].state is not State.READY:
                    record.versions[version] = Shelved(version, State.LOADING)
                self._tell(candidate, State.LOADING, version)
        return await self._open_all(record, candidate, kept, retired)

    def _kept(self, record: Record, candidate: Candidate) -> dict[str, Shelved]:
        """Return the versions that serve already what loading them again would, but for how many instances do."""
        loaded = record.loaded
        if loaded is None or candidate.backend == ENSEMBLE:
            return {}
        if not (candidate.same_instances(loaded) or isinstance(self._loaders[candidate.backend], ChangingLoader)):
            return {}
        return {
            shelved.version: shelved
            for shelved in record.ready
            if shelved.version in candidate.versions and candidate.same_version(loaded, shelved.version)
        }

    async def _change_instances(self, record: Record, candidate: Candidate, kept: Mapping[str, Shelved]) -> str:
        """Give versions that go on serving the instances they are to have; return why that cannot be."""
        loaded, loader = record.loaded, self._loaders[candidate.backend]
        if loaded is None or candidate.same_instances(loaded) or not isinstance(loader, ChangingLoader):
            return ""
        reasons = ""
        for version, shelved in kept.items():
            assert shelved.model is not None
            failed = await change_instances(candidate, version, shelved.model, loader, self._wait_s)
            if failed is not None:
                self._tell(candidate, State.UNAVAILABLE, version, reason=failed.reason, hint=failed.hint)
                reasons += messages.version_failed(version, failed.reason)
        return reasons

    async def _open_all(
        self, record: Record, candidate: Candidate, kept: Mapping[str, Shelved], retired: list[Retired]
    ) -> str:
        opened: list[Opened | Failed] = []

        async def one(version: str) -> None:
            async with self._slots:
                opened.append(self._named(candidate, await self._open(candidate, version)))

        try:
            async with asyncio.TaskGroup() as group:
                for version in candidate.versions:
                    if version not in kept:
                        group.create_task(one(version))
        except BaseException:
            self._keep_old(record, candidate, kept, [o for o in opened if isinstance(o, Opened)])
            raise
        failed = [o for o in opened if isinstance(o, Failed)]
        if failed:
            self._keep_old(record, candidate, kept, opened)
            return "".join(messages.version_failed(one.version, one.reason) for one in failed)
        self._swap(record, candidate, kept, [o for o in opened if isinstance(o, Opened)], retired)
        return ""

    async def _open(self, candidate: Candidate, version: str) -> Opened | Failed:
        """Open one version, again as often as --model-load-retry-count says where it fails."""
        loaders, ensembles = self._loaders, self._loaders[ENSEMBLE]
        if candidate.links and isinstance(ensembles, EnsembleLoader):
            loaders = {**loaders, ENSEMBLE: ensembles.linked(candidate.links)}
        for _ in range(self._retries):
            opened = await open_version(candidate, version, loaders, self._rules, self._offer)
            if isinstance(opened, Opened):
                return opened
        return await open_version(candidate, version, loaders, self._rules, self._offer)

    def _named(self, candidate: Candidate, one: Opened | Failed) -> Opened | Failed:
        """Drop a version whose other names are not free."""
        if isinstance(one, Failed):
            return one
        reason = self._shelf.taken(candidate.key, [alias.name for alias in one.model.aliases])
        if not reason:
            return one
        self.draining.discard(one.model)
        return Failed(one.version, f"Already exists: {reason}", one.seconds, "give one of them another name")

    def _swap(
        self,
        record: Record,
        candidate: Candidate,
        kept: Mapping[str, Shelved],
        opened: Sequence[Opened],
        retired: list[Retired],
    ) -> None:
        """Put new versions in the place of the old ones, which finish what they have."""
        old = record.versions
        self._retire(candidate.key, retired, kept=kept, replaced=candidate.versions)
        record.candidate = record.loaded = candidate
        record.versions = {version: shelved for version, shelved in old.items() if version not in candidate.versions}
        for version, shelved in kept.items():
            record.versions[version] = shelved
            assert shelved.model is not None
            shelved.model.config.proto.version_policy.CopyFrom(candidate.config.version_policy)
        for one in opened:
            record.versions[one.version] = Shelved(one.version, State.READY, "", one.model, one.labels)
        self._shelf.refresh(candidate.key)
        for one in opened:
            instances = describe_instances(one.config)
            self._tell(candidate, State.READY, one.version, instances=instances, seconds=one.seconds)
        for version, shelved in kept.items() if not opened else ():
            assert shelved.model is not None
            described = describe_instances(shelved.model.config.proto)
            self._tell(candidate, State.READY, version, instances=described, kept=True)

    def _keep_old(
        self, record: Record, candidate: Candidate, kept: Mapping[str, Shelved], opened: Sequence[Opened | Failed]
    ) -> None:
        """Drop the new versions, all of them if one failed; what served before goes on serving."""
        reasons = {one.version: one for one in opened}
        for version in candidate.versions:
            if version in kept:
                continue
            shelved, one = record.versions[version], reasons.get(version)
            reason = one.reason if isinstance(one, Failed) else messages.UNLOADED
            if isinstance(one, Opened):
                self.draining.discard(one.model)
            if shelved.state is State.LOADING:
                shelved.state, shelved.reason = State.UNAVAILABLE, reason
            seconds, hint = one.seconds if one else 0.0, one.hint if isinstance(one, Failed) else ""
            self._tell(candidate, State.UNAVAILABLE, version, seconds=seconds, reason=reason, hint=hint)

    def _retire(
        self, key: str, retired: list[Retired], *, kept: Collection[str] = (), replaced: Collection[str] = ()
    ) -> None:
        """Take a model's versions off the shelf but for those kept; of those replaced, still READY, nothing is told."""
        record = self._shelf.records[key]
        for shelved in record.ready:
            if shelved.version in kept:
                continue
            shelved.state = State.UNLOADING
            retired.append(Retired(key, shelved, record.candidate.members))
            if shelved.version not in replaced:
                self._tell(record.candidate, State.UNLOADING, shelved.version)
        self._shelf.refresh(key)

    def _closed(self, one: Retired) -> None:
        record, version = self._shelf.records[one.key], one.shelved.version
        replaced = record.versions.get(version) is not one.shelved
        self._tell(record.candidate, State.UNAVAILABLE, version, reason=messages.UNLOADED, replaced=replaced)

    def _refuse(self, candidate: Candidate, reason: str) -> str:
        self._tell(candidate, State.UNAVAILABLE, reason=reason)
        return reason

    def _tell(
        self,
        candidate: Candidate,
        state: State,
        version: str = "",
        *,
        instances: str = "",
        seconds: float = 0.0,
        reason: str = "",
        hint: str = "",
        kept: bool = False,
        replaced: bool = False,
    ) -> None:
        told = ModelEvent(
            candidate.key, version, candidate.backend, state, instances, seconds, reason, hint, kept, replaced
        )
        self._on_event(told)
