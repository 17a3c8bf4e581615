"""The catalog of a server: which models of its repositories are loaded, and the control of that.

    start / load / poll -> survey -> loading -> shelf <- lookups of every request
    unload / close      -> taken off the shelf -> draining

Operations on the same models follow each other; those on different models run side by side.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from tritium.compat.config import messages
from tritium.compat.config.defaults import ENSEMBLE
from tritium.compat.config.problem import Stage, problem_of
from tritium.core.cache.store import Store
from tritium.core.catalog import IndexEntry, LoadParameters
from tritium.core.errors import AlreadyExists, InferenceError, Internal, InvalidArgument, Unavailable, Unsupported
from tritium.core.model import Model, State
from tritium.core.request import InferRequest, Reply
from tritium.repository.aside import Aside
from tritium.repository.candidate import Candidate, Rules, key_of
from tritium.repository.cloud.bucket import CloudError
from tritium.repository.cloud.repository import CloudRepository
from tritium.repository.ensembles import EnsembleLoader
from tritium.repository.events import ModelEvent, ignore_event
from tritium.repository.inspection import read_candidate
from tritium.repository.loader import CheckingLoader, Loader, Offer, offer_nothing
from tritium.repository.loading import Loading
from tritium.repository.overlay import Overlay
from tritium.repository.places import Place, Renaming, Source, find_places
from tritium.repository.reading import Reader
from tritium.repository.settings import ControlMode, RegistrySettings
from tritium.repository.shelf import Shelf
from tritium.repository.survey import Survey, survey

log = structlog.get_logger("tritium")

_EXPLICIT = "start with --control-mode explicit (tritonserver: --model-control-mode)"


class Registry:
    """Implements `tritium.core.catalog.Catalog`; `loaders` are by backend name, `store` keeps ensembles' responses."""

    def __init__(
        self,
        settings: RegistrySettings,
        loaders: Mapping[str, Loader],
        on_event: Callable[[ModelEvent], None] = ignore_event,
        store: Store | None = None,
        offer: Offer = offer_nothing,
    ) -> None:
        self._settings = settings
        self._repositories: tuple[Source, ...] = tuple(settings.repositories)
        self._on_event = on_event
        self._rules = Rules(
            backends=frozenset(loaders),
            gpus=settings.gpus,
            cpu_for_gpu=settings.cpu_for_gpu,
            auto_complete=settings.auto_complete,
            namespacing=settings.namespacing,
            config_name=settings.config_name,
            checks={name: one.check for name, one in loaders.items() if isinstance(one, CheckingLoader)},
        )
        self._shelf = Shelf()
        everything = {ENSEMBLE: EnsembleLoader(self._shelf.model, store), **loaders}
        self._loading = Loading(self._shelf, everything, self._rules, settings, on_event, offer)
        self._locks: dict[str, asyncio.Lock] = {}
        self._operations: set[asyncio.Task[Any]] = set()
        self._aside = Aside()
        self._overlays: dict[str, Overlay] = {}
        self._reader = Reader(self._rules)
        self._polled: dict[str, Candidate] = {}
        self._failed: dict[str, str] = {}
        self._started = self._unreadable = False

    def survey(self) -> Survey:
        """Read what is to be loaded at start and find every problem, without loading anything."""
        names = self._settings.load_models
        if self._settings.control is ControlMode.EXPLICIT and "*" not in names:
            return survey(self._repositories, self._reader, names)
        return self.survey_all()

    def survey_all(self) -> Survey:
        """Read every model and find every problem, without loading anything."""
        return survey(self._repositories, self._reader)

    async def start(self, found: Survey | None = None) -> None:
        """Load what the control mode says; models that fail are in the index, and `all_loaded` is False."""
        if found is None:
            found = await self._aside.run(self.survey)
        for name in sorted(found.duplicates):
            self._failed[name] = messages.DUPLICATE
            self._on_event(ModelEvent(name, "", "", State.UNAVAILABLE, reason=messages.DUPLICATE))
        for problem in found.general:
            if problem.fatal:
                self._failed.setdefault(problem.path, problem.message)
        if found.unreadable:
            self._unreadable = self._started = True
            return
        explicit = self._settings.control is ControlMode.EXPLICIT and "*" not in self._settings.load_models
        named = [key for key, one in found.candidates.items() if not explicit or one.name in self._settings.load_models]
        async with self._hold(found.candidates):
            self._failed |= await self._loading.load(found.candidates, named)
        self._started = True
        if self._settings.control is ControlMode.POLL:
            self._polled = found.candidates
            self._begin(self._poll_forever())

    @property
    def all_loaded(self) -> bool:
        """Tell whether everything that was to be loaded at start is ready (what --exit-on-error asks)."""
        return self._started and not any(self._failed.values())

    @property
    def starting(self) -> bool:
        """Tell whether what is to be loaded at start is still being loaded."""
        return not self._started

    @property
    def live(self) -> bool:
        """Tell whether the repositories could be read; as in Triton, a server that was given another serves nothing."""
        return not self._unreadable

    @property
    def ready(self) -> bool:
        """Tell whether the server as a whole is ready, by the rules of --strict-readiness."""
        return self._started and self.live and (not self._settings.strict_readiness or self._shelf.healthy())

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
        """Return the class labels of an output, in order; empty where there are none."""
        return self._shelf.labels(model.name, model.version, output)

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Run a request on the model it names; this is how one model calls another."""
        try:
            model = self.model(request.model_name, request.model_version)
        except InferenceError as error:
            reply.send(error, final=True)
        else:
            model.submit(request, reply)

    def index(self, *, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Return the repository index; the folders are listed as they are now."""
        if ready_only:
            names = sorted({*self._shelf.records, *self._shelf.aliases})
            return [line for name in names for line in self._shelf.entries(name, ready_only=True)]
        lines: list[IndexEntry] = []
        for name, places in find_places(self._repositories, known=True).models.items():
            if self._rules.namespacing:
                for place in places:
                    lines += self._shelf.entries(key_of(place.home, name), ready_only=False)
            elif len(places) > 1:
                lines.append(IndexEntry(name, "", State.UNAVAILABLE, messages.DUPLICATE))
            else:
                lines += self._shelf.entries(name, ready_only=False)
        for alias in self._shelf.aliases:
            lines += self._shelf.entries(alias, ready_only=False)
        return lines

    async def load(self, name: str, parameters: LoadParameters) -> None:
        """Load or reload a model; it goes on when the caller is cancelled."""
        self._refuse_unless_explicit()
        if not name.strip():
            raise Internal(messages.poll_failed(name), hint=messages.EMPTY_NAME)
        if name.strip() == ".." or "/" in name:
            raise InvalidArgument(messages.path_traversal(name))
        await asyncio.shield(self._begin(self._load(name, parameters)))

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Unload every version of a model, and with `dependents` the members only it used.

        New requests are refused at once. Returns when the model has drained, or after a moment while it drains.
        """
        self._refuse_unless_explicit()
        for key in list(self._shelf.keys(name)):
            await asyncio.shield(self._begin(self._unload(key, cascade=dependents)))

    async def adopt(self, home: Path, name: str) -> None:
        """Load a model from a folder that the server itself keeps beside its repositories, whatever the control mode.

        Raises:
            InferenceError: it cannot be loaded.
        """
        if not any(Place(one, "").home == str(home) for one in self._repositories):
            self._repositories = (*self._repositories, Renaming(home, {}))
        await asyncio.shield(self._begin(self._load(name, LoadParameters())))

    async def drop(self, name: str) -> None:
        """Unload a model that was adopted; returns as `unload` does. Harmless when it is not loaded."""
        if name in self._shelf.records:
            await asyncio.shield(self._begin(self._unload(name, cascade=False)))

    def register(self, folder: str, names: Mapping[str, str]) -> None:
        """Take models from one more folder; those in the subfolders that `names` has go by the names it gives.

        Raises:
            AlreadyExists: that folder, or a model renamed to that, is there already.
            InvalidArgument: there is no such folder.
        """
        if self._settings.control is not ControlMode.EXPLICIT:
            raise Unsupported(messages.REGISTRATION_REFUSED, hint=_EXPLICIT)
        if not Path(folder).is_dir():
            raise InvalidArgument(messages.nothing_to_register(folder))
        if any(Place(one, "").home == folder for one in self._repositories):
            raise AlreadyExists(messages.registered_already(folder))
        taken = {name for one in self._repositories if isinstance(one, Renaming) for name in one.given.values()}
        for name in names.values():
            if name in taken:
                raise AlreadyExists(messages.renamed_already(name))
        self._repositories = (*self._repositories, Renaming(Path(folder), names))

    def unregister(self, folder: str) -> None:
        """Take no more models from a folder that was registered; those that are loaded stay.

        Raises:
            InvalidArgument: it is not registered.
        """
        kept = tuple(one for one in self._repositories if Place(one, "").home != folder)
        if len(kept) == len(self._repositories):
            raise InvalidArgument(messages.not_registered(folder))
        self._repositories = kept

    async def poll(self) -> None:
        """Look at the repositories once: load what is new or has changed, unload what is gone."""
        found = await self._aside.run(self.survey)
        before, self._polled = self._polled, found.candidates
        self._reader.forget({candidate.folder for candidate in found.candidates.values()})
        changed = {key: one for key, one in found.candidates.items() if _changed(before.get(key), one)}
        gone = [key for key, record in self._shelf.records.items() if record.wanted and key not in found.candidates]
        if found.unreadable or found.unfetched:
            # What cannot be read now may be there all the same: it goes on serving.
            log.error("poll_failed", reasons=[problem.message for problem in found.general if problem.fatal])
            gone = [] if found.unreadable else [key for key in gone if not found.unfetched & {key.rpartition("::")[2]}]
            self._polled = before | found.candidates
        # What an ensemble that will do without a model still uses is unloaded once the ensemble has been loaded anew.
        used = {key for key in gone if set(self._loading.users([key])) & changed.keys()}
        for key in gone:
            if key not in used:
                await self._unload(key, cascade=False)
        if changed:
            async with self._hold(changed):
                await self._loading.load(changed, set(changed))
        for key in used:
            await self._unload(key, cascade=False)
        await self._aside.run(self._prune, found)

    def _prune(self, found: Survey) -> None:
        """Delete copies of models in object stores that nothing uses any more."""
        used = {candidate.folder for candidate in found.candidates.values()}
        used |= {record.loaded.folder for record in self._shelf.records.values() if record.loaded is not None}
        for repository in self._repositories:
            if isinstance(repository, CloudRepository) and not (found.unreadable or found.unfetched):
                repository.prune(used)

    async def close(self) -> None:
        """End every load, then drain and close every model, ensembles before their members."""
        for task in list(self._operations):
            task.cancel()
        await asyncio.gather(*self._operations, return_exceptions=True)
        self._loading.take_down(list(self._shelf.records))
        await self._loading.draining.wait()
        for overlay in self._overlays.values():
            overlay.close()
        self._overlays.clear()
        for repository in self._repositories:
            if isinstance(repository, CloudRepository):
                repository.close()

    def _refuse_unless_explicit(self) -> None:
        if self._settings.control is not ControlMode.EXPLICIT:
            raise Unavailable(messages.CONTROL_REFUSED, hint=_EXPLICIT)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run an operation that outlives the client that asked for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._operations.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._operations.discard(task)
        # The client that asked may have left: what it would have been told is retrieved, what nobody foresaw is logged.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, InferenceError):
            log.error("load_or_unload_failed", exc_info=error)

    @asynccontextmanager
    async def _hold(self, names: Collection[str]) -> AsyncIterator[None]:
        """Keep other operations off these models and the ensembles that use them.

        Locks are taken in the order of names, so that operations cannot wait for each other in a ring.
        """
        async with AsyncExitStack() as stack:
            for name in sorted({*names, *self._loading.users(names)}):
                await stack.enter_async_context(self._locks.setdefault(name, asyncio.Lock()))
            yield

    async def _meant(self, name: str) -> str:
        """Return the model that a load is of: the folder's of that name, else the one that has it as an alias."""
        owner = self._shelf.named_by(name)
        if owner == name or name in (await self._aside.run(find_places, self._repositories)).models:
            return name
        return owner

    async def _load(self, name: str, parameters: LoadParameters) -> None:
        name = await self._meant(name)
        overlay = await self._aside.run(_overlay, name, parameters.files) if parameters.files else None
        try:
            try:
                found = await self._aside.run(self._survey_named, name, parameters.config, overlay)
            except CloudError as error:
                raise Internal(messages.poll_failed(name), hint=error.message) from error
            asked = [key for key, candidate in found.candidates.items() if candidate.name == name]
            self._refuse_unusable(name, [found.candidates[key] for key in asked], found)
            async with self._hold(found.candidates):
                stale = {key: one for key, one in found.candidates.items() if self._stale(one)}
                reasons = await self._loading.load(stale, asked)
                for key in asked:
                    if key in self._shelf.records:
                        self._shelf.records[key].explicit = True
                if failed := "".join(messages.load_failed(key, reasons[key]) for key in asked if reasons.get(key)):
                    raise InvalidArgument(failed)
                overlay = self._exchange_overlay(name, overlay, reloaded=name in stale)
        finally:
            if overlay is not None:
                overlay.close()

    def _survey_named(self, name: str, config: str, overlay: Overlay | None) -> Survey:
        given: list[Candidate] = []
        if overlay is not None:
            if not config:
                return Survey(
                    general=[problem_of(name, "files of a load request need the parameter 'config' beside them")]
                )
            given = [read_candidate(overlay.folder, name, self._rules, config)]
        elif config:
            places = find_places(self._repositories).models.get(name, [])
            if len(places) == 1 or self._rules.namespacing:
                given = [self._overridden(place, config) for place in places]
        return survey(self._repositories, self._reader, [name], {one.key: one for one in given})

    def _overridden(self, place: Place, config: str) -> Candidate:
        candidate = read_candidate(place.folder(), place.name, self._rules, config, renamed=place.renamed)
        if self._rules.namespacing:
            candidate.namespace = place.home
        return candidate

    @staticmethod
    def _refuse_unusable(name: str, candidates: Sequence[Candidate], found: Survey) -> None:
        problems = [problem for candidate in candidates if (problem := candidate.first(Stage.POLL))]
        if not candidates:
            problems = [problem for problem in found.general if problem.fatal]
        if problems or not candidates:
            reason = problems[0].message if problems else ""
            log.error(messages.poll_failed_for(name, reason))  # Triton's clients show its answer, which has no reason
            raise Internal(messages.poll_failed(name), hint=reason)

    def _exchange_overlay(self, name: str, new: Overlay | None, *, reloaded: bool) -> Overlay | None:
        """Keep the folder of a model that was loaded from request files; return the one it replaces."""
        if not reloaded:
            return None
        old = self._overlays.pop(name, None)
        if new is not None:
            self._overlays[name] = new
        return old

    def _stale(self, candidate: Candidate) -> bool:
        """Tell whether a model is not loaded as it is now."""
        record = self._shelf.records.get(candidate.key)
        if record is None or record.loaded is None or not record.ready:
            return True
        # As in Triton, a configuration from a request stays until a file changes or another comes.
        return candidate.overridden or _changed(record.loaded, candidate)

    async def _unload(self, key: str, *, cascade: bool) -> None:
        record = self._shelf.records[key]
        async with self._hold([key]):
            users = self._loading.users([key])
            record.wanted = record.explicit = False
            self._loading.take_down([*users, key])
        await self._loading.draining.wait(self._settings.unload_wait_s)
        if key in self._overlays and all(shelved.model is None for shelved in record.versions.values()):
            self._overlays.pop(key).close()
        for member in record.candidate.members if cascade else ():
            inner = self._shelf.records.get(member)
            if inner is not None and inner.wanted and not inner.explicit and not self._loading.users([member]):
                await self._unload(member, cascade=True)

    async def _poll_forever(self) -> None:
        while self._settings.poll_s > 0:
            await asyncio.sleep(self._settings.poll_s)
            try:
                await self.poll()
            except Exception:
                log.exception("poll_failed")


def _changed(before: Candidate | None, now: Candidate) -> bool:
    """Tell whether a model is new, has been written to, or consists of other models."""
    return before is None or not now.same_files(before) or now.links != before.links


def _overlay(name: str, files: Mapping[str, bytes]) -> Overlay:
    """Write the files of a load request.

    Raises:
        InvalidArgument: they have names that no file of a model can have.
        Internal: they cannot be written.
    """
    try:
        return Overlay(files)
    except ValueError as error:
        raise InvalidArgument(messages.poll_failed(name), hint=str(error)) from None
    except OSError as error:
        # Also where a name is too long, as tritonclient's own example of model control demands.
        hint = f"the files of the request cannot be written: {error.strerror}"
        raise Internal(messages.poll_failed(name), hint=hint) from None
