"""Loading the models of tensor backends: one instance for each that the configuration asks for.

Backends are found by the entry-point group `tritium.backends`; a package adds one of its own there.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tritium.backends.contract import BackendHost, ConfiguredBackend, ModelSource, TensorBackend
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.unserved import NO_BATCH_STRATEGY
from tritium.core.cache.cached_model import with_cache
from tritium.core.errors import InvalidArgument, Unsupported
from tritium.core.facilities import NO_FACILITIES, Facilities
from tritium.core.model import Model
from tritium.core.tensor_model import TensorModel
from tritium.repository.crew import Crew, Member
from tritium.repository.initial_state import initial_states
from tritium.repository.known_backends import GROUP


class TensorLoader:
    """Loads the models of one backend; its code is imported when the first model needs it."""

    def __init__(
        self,
        make: Callable[[], TensorBackend],
        host: Callable[[], BackendHost],
        facilities: Facilities = NO_FACILITIES,
    ) -> None:
        self._make = make
        self._host = host
        self._facilities = facilities
        self._backend: TensorBackend | None = None
        self._crews: WeakKeyDictionary[Model, Crew] = WeakKeyDictionary()

    @property
    def backend(self) -> TensorBackend:
        """Return the backend, made and configured on first use.

        Raises:
            InferenceError: its package cannot be imported, or its settings cannot be.
        """
        if self._backend is None:
            try:
                backend = self._make()
            except ImportError as error:
                raise InvalidArgument(f"backend cannot be imported: {error}") from error
            if isinstance(backend, ConfiguredBackend):
                backend.configure(self._host().settings)
            self._backend = backend
        return self._backend

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in what the configuration leaves out and the model itself knows."""
        return await self.backend.complete(config, folder, version)

    async def load(self, source: ModelSource) -> Model:
        """Open every instance of a version, side by side, and warm it up; if one fails, the others are closed again."""
        _refuse_strategy(source)
        crew = Crew(source, self.backend, self._host(), self._facilities.limiter)
        model = with_cache(await crew.open(partial(self._model, source)), self._facilities.store)
        self._crews[model] = crew
        return model

    async def change_instances(self, model: Model, groups: Sequence[Any], wait_s: float) -> None:
        """Give a version that serves other instances: those that are missing are opened, those too many closed."""
        await self._crews[model].change(groups, wait_s)

    def _model(self, source: ModelSource, members: Sequence[Member]) -> TensorModel:
        return TensorModel(
            source.config,
            source.version,
            [member.instance for member in members if not member.seat.passive],
            passive=[member.instance for member in members if member.seat.passive],
            facilities=self._facilities,
            tickets=[member.ticket for member in members if member.ticket is not None],
            initial_states=initial_states(source),
        )


def _refuse_strategy(source: ModelSource) -> None:
    """Refuse a model with a batching strategy of its own beside it, where Triton would look for one.

    Raises:
        Unsupported: there is one.
    """
    if source.config.proto.HasField("dynamic_batching"):
        for folder in (source.version_folder, source.folder):
            if (folder / "batchstrategy.so").exists():
                raise Unsupported(
                    f"model '{source.config.name}': {NO_BATCH_STRATEGY}", hint=f"remove {folder}/batchstrategy.so"
                )


def tensor_loaders(
    host: Callable[[], BackendHost] = BackendHost,
    settings: Mapping[str, Mapping[str, str]] | None = None,
    facilities: Facilities = NO_FACILITIES,
) -> dict[str, TensorLoader]:
    """Return a loader for every installed backend by name.

    `host` is asked at each load, for it may lend the registry that these loaders go into; `settings` are the
    --backend-config pairs by backend, those of "" for every backend; `facilities` are what all models share.
    """
    given = settings or {}

    def host_of(backend: str) -> BackendHost:
        return dataclasses.replace(host(), settings={**given.get("", {}), **given.get(backend, {})})

    return {p.name: TensorLoader(_maker(p), partial(host_of, p.name), facilities) for p in entry_points(group=GROUP)}


def _maker(point: EntryPoint) -> Callable[[], TensorBackend]:
    def make() -> TensorBackend:
        factory: Any = point.load()
        backend: TensorBackend = factory()
        return backend

    return make
