"""The catalog of a server: loads models from repositories, replaces them without losing a request, unloads them.

    UNLOADED --load--> LOADING --ok--> READY --unload or replaced--> UNLOADING --idle--> UNAVAILABLE "unloaded"
                          |
                          +--error--> UNAVAILABLE, with the reason (a version already serving stays READY)

Operations on the same models follow each other; those on different models run side by side, at most
`load_threads` loads at a time. An ensemble is loaded after its members.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tritium.compat.config import messages
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.problem import Stage
from tritium.core.catalog import IndexEntry, LoadParameters
from tritium.core.errors import InferenceError, Internal, InvalidArgument, Unavailable
from tritium.core.model import Model, State
from tritium.core.request import InferRequest, Reply
from tritium.repository.candidate import Candidate, Rules, read_candidate
from tritium.repository.ensembles import EnsembleLoader, fit_members
from tritium.repository.events import ModelEvent, describe_instances
from tritium.repository.layout import fingerprint
from tritium.repository.loader import Loader
from tritium.repository.opening import Failed, Opened, open_version
from tritium.repository.overlay import Overlay
from tritium.repository.shelf import Record, Shelf, Shelved
from tritium.repository.survey import Survey, find_folders, survey


class ControlMode(StrEnum):
    """Who decides what is loaded: the repository at start, the client, or the repository as it changes."""

    NONE = "none"
    EXPLICIT = "explicit"
    POLL = "poll"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """What a registry serves and how.

    `load_models` are loaded at start in explicit mode, "*" meaning all. `gpus` are the devices of this machine;
    `cpu_for_gpu` runs KIND_GPU groups on the CPU instead of refusing them.
    """

    repositories: tuple[Path, ...]
    control: ControlMode = ControlMode.NONE
    load_models: tuple[str, ...] = ()
    auto_complete: bool = True
    config_name: str = ""
    strict_readiness: bool = True
    load_threads: int = 4
    poll_s: float = 15.0
    unload_wait_s: float = 1.0
    gpus: tuple[int, ...] = ()
    cpu_for_gpu: bool = False


def _ignore(_: ModelEvent) -> None:
    return None


@dataclass(slots=True)
class _Operations:
    """Background work: loads go on when the client that asked has left, and replaced models drain by themselves."""

    running: set[asyncio.Task[Any]] = field(default_factory=set)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return task


class Registry:
    """Implements `tritium.core.catalog.Catalog`; `loaders` are by backend name."""

    def __init__(
        self,
        settings: RegistrySettings,
        loaders: Mapping[str, Loader],
        on_event: Callable[[ModelEvent], None] = _ignore,
    ) -> None:
        self._settings = settings
        self._loaders = {ENSEMBLE: EnsembleLoader(self.model), **loaders}
        self._on_event = on_event
        self._rules = Rules(
            backends=frozenset(loaders),
            gpus=settings.gpus,
            cpu_for_gpu=settings.cpu_for_gpu,
            auto_complete=settings.auto_complete,
            config_name=settings.config_name,
        )
        self._shelf = Shelf()
        self._locks: dict[str, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(max(1, settings.load_threads))
        self._loads = _Operations()
        self._drains = _Operations()
        self._overlays: dict[str, Overlay] = {}
        self._prints: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        self._started = False

    def survey(self) -> Survey:
        """Read what is to be loaded at start and find every problem, without loading anything."""
        names = self._settings.load_models
        if self._settings.control is ControlMode.EXPLICIT and "*" not in names:
            return survey(self._settings.repositories, self._rules, names)
        return survey(self._settings.repositories, self._rules)

    async def start(self, found: Survey | None = None) -> None:
        """Load what the control mode says; models that fail are in the index, and `all_loaded` is False."""
        if found is None:
            found = await asyncio.to_thread(self.survey)
        explicit = set(self._settings.load_models) if self._settings.control is ControlMode.EXPLICIT else None
        if explicit is None or "*" in explicit:
            explicit = set(found.candidates)
        for name in found.duplicates:
            self._failed[name] = messages.DUPLICATE
            self._tell(name, State.UNAVAILABLE, reason=messages.DUPLICATE)
        for problem in found.general:
            self._failed.setdefault(problem.path, problem.message)
        self._failed |= await self._load_all(found.candidates, explicit)
        self._started = True
        if self._settings.control is ControlMode.POLL:
            self._loads.start(self._poll_forever())

    @property
    def all_loaded(self) -> bool:
        """Tell whether everything that was to be loaded at start is ready (what --exit-on-error asks)."""
        return self._started and not any(self._failed.values())

    @property
    def ready(self) -> bool:
        """Tell whether the server as a whole is ready, by the rules of --strict-readiness."""
        return self._started and (not self._settings.strict_readiness or self._shelf.healthy())

    def model(self, name: str, version: str = "") -> Model:
        """Return a loaded version, the newest where none is named."""
        return self._shelf.model(name, version)

    def models(self) -> Sequence[Model]:
        """Return every loaded version of every model, by name and version."""
        return self._shelf.models()

    def versions(self, name: str) -> Sequence[str]:
        """Return the loaded versions of a model, ascending by number."""
        return self._shelf.versions(name)

    def labels(self, model: Model, output: str) -> Sequence[str]:
        """Return the class labels of an output, in order; empty where its configuration names no file."""
        record = self._shelf.records.get(model.name)
        shelved = record.versions.get(model.version) if record else None
        return shelved.labels.get(output, ()) if shelved else ()

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Run a request on the model it names; this is how a model calls another."""
        try:
            model = self.model(request.model_name, request.model_version)
        except InferenceError as error:
            reply.send(error, final=True)
        else:
            model.submit(request, reply)

    def index(self, *, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Return the repository index; the folders are listed as they are now."""
        lines: list[IndexEntry] = []
        for name, places in find_folders(self._settings.repositories).items():
            if len(places) > 1:
                lines.append(IndexEntry(name, "", State.UNAVAILABLE, messages.DUPLICATE))
            else:
                lines += self._shelf.entries(name, ready_only=ready_only)
        return lines

    async def load(self, name: str, parameters: LoadParameters) -> None:
        """Load or reload a model. It goes on when the caller is cancelled."""
        self._refuse_unless_explicit()
        if not name.strip():
            raise Internal(messages.poll_failed(name), hint=messages.EMPTY_NAME)
        if name.strip() == ".." or "/" in name:
            raise InvalidArgument(messages.path_traversal(name))
        await asyncio.shield(self._loads.start(self._load_named(name, parameters)))

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Unload every version of a model, and with `dependents` the members only it used.

        New requests are refused at once. Returns when the model has drained, or after a moment while it drains.
        """
        self._refuse_unless_explicit()
        await asyncio.shield(self._loads.start(self._unload_named(name, cascade=dependents)))

    async def poll(self) -> None:
        """Look at the repositories once: load what is new or has changed, unload what is gone."""
        found = await asyncio.to_thread(self.survey)
        for name, record in list(self._shelf.records.items()):
            if record.wanted and name not in found.candidates:
                await self._unload_named(name, cascade=False)
        changed = {
            name: candidate
            for name, candidate in found.candidates.items()
            if self._prints.get(name) != fingerprint(candidate.folder)
        }
        if changed:
            async with self._hold([*changed, *self._users(changed)]):
                await self._load_all(changed, set(changed))
                await self._reload_users(changed)

    async def close(self) -> None:
        """End every load, then drain and close every model, ensembles before their members."""
        for task in list(self._loads.running):
            task.cancel()
        await asyncio.gather(*self._loads.running, return_exceptions=True)
        records = self._shelf.records
        ensembles = [name for name in records if records[name].candidate.backend == ENSEMBLE]
        for names in (ensembles, list(records)):
            for name in names:
                self._take_down(name)
            while self._drains.running:
                await asyncio.gather(*self._drains.running, return_exceptions=True)

    def _refuse_unless_explicit(self) -> None:
        if self._settings.control is not ControlMode.EXPLICIT:
            raise Unavailable(messages.CONTROL_REFUSED, hint="start with --control-mode explicit")

    @asynccontextmanager
    async def _hold(self, names: Collection[str]) -> AsyncIterator[None]:
        """Keep other operations off these models. Locks are taken in the order of names, so none can wait in a ring."""
        async with AsyncExitStack() as stack:
            for name in sorted(set(names)):
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            yield

    async def _load_named(self, name: str, parameters: LoadParameters) -> None:
        overlay = Overlay(parameters.files) if parameters.files else None
        try:
            found = await asyncio.to_thread(self._survey_named, name, parameters.config, overlay)
            candidate = found.candidates.get(name)
            problem = candidate.first(Stage.POLL) if candidate else None
            if candidate is None or problem:
                first = problem or next(iter(found.general), None)
                raise Internal(messages.poll_failed(name), hint=first.message if first else "")
            async with self._hold([*found.candidates, *self._users(found.candidates)]):
                asked = bool(parameters.config or parameters.files)
                stale = {n: c for n, c in found.candidates.items() if (asked and n == name) or self._stale(n, c)}
                reasons = await self._load_all(stale, {name})
                if name in self._shelf.records:
                    self._shelf.records[name].explicit = True
                if asked:
                    self._prints.pop(name, None)
                if reason := reasons.get(name):
                    raise InvalidArgument(messages.load_failed(name, reason))
                if overlay is not None:
                    self._replace_overlay(name, overlay)
                    overlay = None
                await self._reload_users(stale)
        finally:
            if overlay is not None:
                overlay.close()

    def _survey_named(self, name: str, config: str, overlay: Overlay | None) -> Survey:
        given: dict[str, Candidate] = {}
        if overlay is not None and config:
            given[name] = read_candidate(overlay.folder, name, self._rules, config)
        elif overlay is not None:
            return Survey()  # files come with a configuration, or not at all
        elif config:
            places = find_folders(self._settings.repositories).get(name, [])
            if len(places) == 1:
                given[name] = read_candidate(places[0], name, self._rules, config)
        return survey(self._settings.repositories, self._rules, [name], given)

    def _replace_overlay(self, name: str, overlay: Overlay) -> None:
        old = self._overlays.pop(name, None)
        self._overlays[name] = overlay
        if old is not None:
            old.close()

    def _stale(self, name: str, candidate: Candidate) -> bool:
        record = self._shelf.records.get(name)
        return record is None or not record.ready or self._prints.get(name) != fingerprint(candidate.folder)

    def _users(self, names: Collection[str]) -> list[str]:
        """Return the wanted ensembles that contain any of these models, directly or through another ensemble."""
        found: list[str] = []
        for name, record in self._shelf.records.items():
            if name not in names and record.wanted and set(record.candidate.members) & set(names):
                found += [name, *self._users([name])]
        return list(dict.fromkeys(found))

    async def _reload_users(self, names: Collection[str]) -> None:
        """Fit the ensembles again that contain these models; one that no longer fits is taken down."""
        users = {name: self._shelf.records[name].candidate.again() for name in self._users(names)}
        explicit = {name for name in users if self._shelf.records[name].explicit}
        if users:
            await self._load_all(users, explicit)

    async def _load_all(self, candidates: Mapping[str, Candidate], explicit: Collection[str]) -> dict[str, str]:
        """Load models, members before their ensembles; return the reason of each, empty where it is ready."""
        tasks: dict[str, asyncio.Task[str]] = {}

        async def one(candidate: Candidate) -> str:
            if not candidate.first(Stage.GRAPH):  # an ensemble in a cycle would wait for itself
                await asyncio.gather(*(tasks[m] for m in candidate.members if m in tasks))
            reasons = {m: tasks[m].result() for m in candidate.members if m in tasks and tasks[m].done()}
            return await self._load_model(candidate, reasons, explicit=candidate.name in explicit)

        async with asyncio.TaskGroup() as group:
            for name, candidate in candidates.items():
                tasks[name] = group.create_task(one(candidate))
        return {name: task.result() for name, task in tasks.items()}

    async def _load_model(self, candidate: Candidate, members: Mapping[str, str], *, explicit: bool) -> str:
        name = candidate.name
        if problem := candidate.first(Stage.POLL):
            self._tell(name, State.UNAVAILABLE, candidate=candidate, reason=problem.message)
            return problem.message
        record = self._shelf.records.setdefault(name, Record(candidate))
        record.wanted, record.explicit = True, record.explicit or explicit
        problem = candidate.first(Stage.GRAPH)
        reason = problem.message if problem else fit_members(candidate, self._shelf, members)
        if reason:
            record.candidate = candidate
            self._take_down(name)
            self._tell(name, State.UNAVAILABLE, candidate=candidate, reason=reason)
            return reason
        record.reached = True
        if not candidate.versions:
            self._tell(name, State.UNAVAILABLE, candidate=candidate, reason=messages.no_version(name))
            return messages.no_version(name)
        for version in candidate.versions:
            if version not in record.versions or record.versions[version].state is not State.READY:
                record.versions[version] = Shelved(version, State.LOADING)
            self._tell(name, State.LOADING, version, candidate)
        printed = await asyncio.to_thread(fingerprint, candidate.folder)
        opened = await asyncio.gather(*(self._open(candidate, version) for version in candidate.versions))
        failed = [one for one in opened if isinstance(one, Failed)]
        if failed:
            self._keep_old(record, candidate, opened)
            return "".join(messages.version_failed(one.version, one.reason) for one in failed)
        self._swap(record, candidate, [one for one in opened if isinstance(one, Opened)])
        self._prints[name] = printed
        return ""

    async def _open(self, candidate: Candidate, version: str) -> Opened | Failed:
        async with self._slots:
            return await open_version(candidate, version, self._loaders, self._rules)

    def _swap(self, record: Record, candidate: Candidate, opened: Sequence[Opened]) -> None:
        """Put new versions in the place of the old ones, which finish what they have."""
        old = record.versions
        record.candidate = candidate
        record.versions = {one.version: Shelved(one.version, State.READY, "", one.model, one.labels) for one in opened}
        for version, shelved in old.items():
            if version not in record.versions:
                record.versions[version] = shelved
            if shelved.state is State.READY:
                self._drain(candidate.name, shelved)
        self._shelf.refresh(candidate.name)
        for one in opened:
            self._tell(candidate.name, State.READY, one.version, candidate, one.config, one.seconds)

    def _keep_old(self, record: Record, candidate: Candidate, opened: Sequence[Opened | Failed]) -> None:
        """Drop the new versions, all of them if one failed; what served before goes on serving."""
        for one in opened:
            shelved = record.versions[one.version]
            reason = one.reason if isinstance(one, Failed) else messages.UNLOADED
            if isinstance(one, Opened):
                self._drains.start(one.model.close())
            if shelved.state is not State.READY:
                shelved.state, shelved.reason = State.UNAVAILABLE, reason
            self._tell(candidate.name, State.UNAVAILABLE, one.version, candidate, None, one.seconds, reason)

    async def _unload_named(self, name: str, *, cascade: bool) -> None:
        record = self._shelf.records.get(name)
        if record is None:
            return
        members = record.candidate.members
        async with self._hold([name, *members, *self._users([name])]):
            for user in self._users([name]):
                self._take_down(user)
            record.wanted = record.explicit = False
            self._prints.pop(name, None)
            self._take_down(name)
        if self._drains.running:
            await asyncio.wait(list(self._drains.running), timeout=self._settings.unload_wait_s)
        for member in members if cascade else ():
            inner = self._shelf.records.get(member)
            if inner is not None and inner.wanted and not inner.explicit and not self._users([member]):
                await self._unload_named(member, cascade=True)

    def _take_down(self, name: str) -> None:
        """Stop giving requests to a model, and let it finish those it has."""
        record = self._shelf.records[name]
        for shelved in record.ready:
            self._drain(name, shelved)
        self._shelf.refresh(name)

    def _drain(self, name: str, shelved: Shelved) -> None:
        shelved.state = State.UNLOADING
        self._tell(name, State.UNLOADING, shelved.version)
        self._drains.start(self._close_model(name, shelved))

    async def _close_model(self, name: str, shelved: Shelved) -> None:
        assert shelved.model is not None
        try:
            await shelved.model.close()
        finally:
            shelved.state, shelved.reason, shelved.model = State.UNAVAILABLE, messages.UNLOADED, None
            record = self._shelf.records.get(name)
            if record is not None and not record.wanted and name in self._overlays:
                self._overlays.pop(name).close()
            self._tell(name, State.UNAVAILABLE, shelved.version, reason=messages.UNLOADED)

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_s)
            await self.poll()

    def _tell(
        self,
        name: str,
        state: State,
        version: str = "",
        candidate: Candidate | None = None,
        config: Any = None,
        seconds: float = 0.0,
        reason: str = "",
    ) -> None:
        backend = candidate.backend if candidate else ""
        instances = describe_instances(config or candidate.config) if candidate else ""
        self._on_event(ModelEvent(name, version, backend, state, instances, seconds, reason))
