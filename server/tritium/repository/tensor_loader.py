"""Loading the models of tensor backends: one instance for each that the configuration asks for.

Backends are found by the entry-point group `tritium.backends`; a package adds one of its own there.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource, TensorBackend
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument
from tritium.core.instance import Instance
from tritium.core.model import Model
from tritium.core.tensor_model import TensorModel
from tritium.repository.known_backends import GROUP
from tritium.repository.warmup import warm_up

MOST_INSTANCES = 4096
"""Of one version."""


class TensorLoader:
    """Loads the models of one backend; its code is imported when the first model needs it."""

    def __init__(self, make: Callable[[], TensorBackend], host: Callable[[], BackendHost]) -> None:
        self._make = make
        self._host = host
        self._backend: TensorBackend | None = None

    @property
    def backend(self) -> TensorBackend:
        """Return the backend, made on first use.

        Raises:
            InvalidArgument: its package cannot be imported.
        """
        if self._backend is None:
            try:
                self._backend = self._make()
            except ImportError as error:
                raise InvalidArgument(f"backend cannot be imported: {error}") from error
        return self._backend

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in what the configuration leaves out and the model itself knows."""
        return await self.backend.complete(config, folder, version)

    async def load(self, source: ModelSource) -> Model:
        """Open every instance of a version, side by side, and warm it up; if one fails, the others are closed again."""
        health = _Health()
        host = dataclasses.replace(self._host(), changed=health.changed)
        opening = [asyncio.ensure_future(self.backend.open(source, place, host)) for place in places_of(source.config)]
        try:
            instances = await asyncio.gather(*opening)
            await warm_up(source, instances)
            model = TensorModel(source.config, source.version, instances)
        except BaseException:
            await _close_opened(opening)
            raise
        health.model = model
        return model


@dataclasses.dataclass(slots=True)
class _Health:
    """Passes word of an instance's health on to the model, once there is one."""

    model: TensorModel | None = None

    def changed(self) -> None:
        if self.model is not None:
            self.model.health_changed()


async def _close_opened(opening: Sequence["asyncio.Future[Instance]"]) -> None:
    for future in opening:
        future.cancel()
    for result in await asyncio.gather(*opening, return_exceptions=True):
        if not isinstance(result, BaseException):
            await result.close()


def places_of(config: ModelConfig) -> list[InstancePlace]:
    """Return the instances that the groups of a configuration ask for, by Triton's names: GROUP_0, GROUP_1, ...

    Raises:
        InvalidArgument: there are more than any machine runs.
    """
    groups = config.proto.instance_group
    asked = sum(group.count * max(1, len(group.gpus)) for group in groups)
    if asked > MOST_INSTANCES:
        raise InvalidArgument(
            f"instance_group of model '{config.name}' asks for {asked} instances; up to {MOST_INSTANCES} can be",
            hint="each instance is a process, a thread or a copy of the model",
        )
    places: list[InstancePlace] = []
    for group in groups:
        kind = group.Kind.Name(group.kind).removeprefix("KIND_")
        index = 0
        for device in group.gpus or (0,):
            for _ in range(group.count):
                places.append(InstancePlace(f"{group.name}_{index}", kind, device))
                index += 1
    return places


def tensor_loaders(
    host: Callable[[], BackendHost] = BackendHost, settings: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, TensorLoader]:
    """Return a loader for every installed backend by name.

    `host` is asked at each load, for it may lend the registry that these loaders go into; `settings` are the
    --backend-config pairs by backend.
    """

    def host_of(backend: str) -> BackendHost:
        return dataclasses.replace(host(), settings=dict((settings or {}).get(backend, {})))

    return {p.name: TensorLoader(_maker(p), partial(host_of, p.name)) for p in entry_points(group=GROUP)}


def _maker(point: EntryPoint) -> Callable[[], TensorBackend]:
    def make() -> TensorBackend:
        factory: Any = point.load()
        backend: TensorBackend = factory()
        return backend

    return make
