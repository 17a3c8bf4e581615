"""Models that are loaded when they are first asked for, and unloaded when others need their room.

ASLEEP --a request--> LOADING --ok--> READY --least recently used--> draining --> ASLEEP
                         +----error--> the requests that waited get its reason, and the next one tries again

Clients see one repository of models that are all there; the first request after a while takes as long as a load.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from tritium.compat.config import messages
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.core.cache.store import Store
from tritium.core.catalog import LoadParameters
from tritium.core.errors import Cancelled, InferenceError, NotFound, Overloaded, Unavailable
from tritium.core.model import Model
from tritium.core.request import InferRequest, Reply
from tritium.core.scheduler.plan import GONE
from tritium.core.statistics import Statistics
from tritium.repository.candidate import Candidate
from tritium.repository.events import ModelEvent, ignore_event
from tritium.repository.loader import Loader, Offer, offer_nothing
from tritium.repository.memory import used_bytes
from tritium.repository.registry import Registry
from tritium.repository.settings import RegistrySettings
from tritium.repository.survey import Survey

MOST_WAITING = 1024
"""Requests that may wait for one model to be loaded; more are refused."""

ON_DEMAND_HELP: Mapping[str, str] = {
    "tritium_on_demand_loads_total": "Models loaded because a request asked for them",
    "tritium_on_demand_evictions_total": "Models unloaded to make room for others",
    "tritium_on_demand_waiting_requests": "Requests that wait for their model to be loaded",
    "tritium_on_demand_asleep_models": "Models that are there and not loaded",
}

Then = Callable[[Model | InferenceError], None]
"""What a request does once its model is loaded, or could not be."""

log = structlog.get_logger("tritium")


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be loaded at a time: models, and bytes of this server and its processes; 0 is any."""

    models: int = 0
    bytes: int = 0


class SleepingModel(Model):
    """Stands for a model that is not loaded; its configuration is that of its file, before its backend completes it."""

    def __init__(self, candidate: Candidate, version: str, wake: Callable[[str, Then], None]) -> None:
        self.name = candidate.name
        self.version = version
        self.config: ModelConfig = from_proto(candidate.config)
        self.statistics = Statistics()
        self._wake = wake

    @property
    def ready(self) -> bool:
        """Return True: a request that is submitted now will run, once the model is loaded."""
        return True

    async def awake(self) -> Model:
        """Have the model loaded, and return it."""
        loaded: asyncio.Future[Model] = asyncio.get_running_loop().create_future()

        def tell(found: Model | InferenceError) -> None:
            if loaded.done():
                return
            if isinstance(found, Model):
                loaded.set_result(found)
            else:
                loaded.set_exception(found)

        self._wake(self.version, tell)
        return await loaded

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """Have the model loaded, and the request run on it."""

        def run(found: Model | InferenceError) -> None:
            if request.cancelled:
                found = Cancelled(GONE)
            if isinstance(found, Model):
                found.submit(request, reply)
            else:
                reply.send(found, final=True)

        self._wake(self.version, run)

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""


class OnDemandRegistry(Registry):
    """A registry in explicit mode that loads and unloads by itself as well."""

    def __init__(
        self,
        settings: RegistrySettings,
        loaders: Mapping[str, Loader],
        on_event: Callable[[ModelEvent], None] = ignore_event,
        store: Store | None = None,
        offer: Offer = offer_nothing,
        *,
        room: Room,
        measure: Callable[[], int] = used_bytes,
    ) -> None:
        super().__init__(settings, loaders, on_event, store, offer)
        self._room = room
        self._measure = measure
        self._known: dict[str, Candidate] = {}
        self._used: dict[str, None] = {}
        """Loaded models, the one that was asked for longest ago first."""
        self._waiting: dict[str, deque[tuple[str, Then]]] = {}
        """Who waits for a model's load, each for a version."""
        self._making_room = asyncio.Lock()
        self._loads = self._evictions = 0

    def survey(self) -> Survey:
        """Read every model: any may be asked for."""
        return self.survey_all()

    async def start(self, found: Survey | None = None) -> None:
        """Load the models that are named for it, and know of all others."""
        everything = found if found is not None else await self._aside.run(self.survey)
        self._known = {one.name: one for one in everything.candidates.values() if not one.fatal}
        named = await self._aside.run(super().survey)
        named.general, named.unreadable = everything.general, everything.unreadable
        named.duplicates = everything.duplicates
        await super().start(named)

    def model(self, name: str, version: str = "") -> Model:
        """Return a loaded version, or one that will be loaded for the first request it gets."""
        try:
            found = super().model(name, version)
        except (NotFound, Unavailable):
            candidate = self._known.get(name)
            if candidate is None or self._shelf.versions(name) or (version and version not in candidate.versions):
                raise
            return SleepingModel(candidate, version, partial(self._wake, name))
        self._used.pop(found.name, None)
        self._used[found.name] = None
        return found

    def versions(self, name: str) -> Sequence[str]:
        """Return the versions of a model that take requests, or those that will when it wakes."""
        loaded = self._shelf.versions(name)
        return loaded if loaded or name not in self._known else self._known[name].versions

    def metrics(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Yield name, labels and value of what has been counted."""
        yield "tritium_on_demand_loads_total", {}, self._loads
        yield "tritium_on_demand_evictions_total", {}, self._evictions
        yield "tritium_on_demand_waiting_requests", {}, sum(map(len, self._waiting.values()))
        yield "tritium_on_demand_asleep_models", {}, sum(not self._shelf.versions(name) for name in self._known)

    def _wake(self, name: str, version: str, then: Then) -> None:
        """Put a request behind the load of its model."""
        waiting = self._waiting.get(name)
        if waiting is None:
            waiting = self._waiting[name] = deque()
            self._begin(self._load_for(name))
        if len(waiting) >= MOST_WAITING:
            message = f"{MOST_WAITING} requests wait already for model '{name}' to be loaded"
            then(Overloaded(message, hint="try again when it is ready"))
            return
        waiting.append((version, then))

    async def _load_for(self, name: str) -> None:
        """Load a model, and let the requests go on that have come meanwhile."""
        failure: InferenceError | None = None
        try:
            await self._make_room(name)
            await self.load(name, LoadParameters())
            self._used[name] = None
            self._loads += 1
        except InferenceError as error:
            failure = error.with_traceback(None)
        except asyncio.CancelledError:
            failure = Unavailable(messages.STOPPING)
            raise
        finally:
            for version, then in self._waiting.pop(name):
                then(failure or self._loaded(name, version))
        await self._make_room(name)

    def _loaded(self, name: str, version: str) -> Model | InferenceError:
        try:
            return self._shelf.model(name, version)
        except InferenceError as error:
            return error.with_traceback(None)

    async def _make_room(self, name: str) -> None:
        """Unload what was asked for longest ago until this model fits, or until only it is left."""
        async with self._making_room:
            while self._crowded(name) and (victim := self._victim(name)):
                self._used.pop(victim, None)
                self._evictions += 1
                log.info("model_evicted", model=victim, **{"for": name})
                await self.unload(victim, dependents=True)

    def _crowded(self, name: str) -> bool:
        room = self._room
        loaded = [key for key, record in self._shelf.records.items() if record.ready]
        coming = 0 if name in loaded else 1
        return bool(room.models and len(loaded) + coming > room.models) or bool(
            room.bytes and self._measure() > room.bytes
        )

    def _victim(self, name: str) -> str:
        """Return the loaded model that was asked for longest ago.

        Members are left to the ensembles that use them, and models to the requests that wait for them.
        """
        kept = {name, *self._waiting}
        kept |= {member for one in kept if one in self._known for member in self._known[one].members}
        idle = [one for one in self._shelf.records if one not in self._used and self._shelf.records[one].ready]
        for key in [*idle, *self._used]:
            record = self._shelf.records.get(key)
            if record is not None and record.ready and key not in kept and not self._loading.users([key]):
                return key
        return ""
