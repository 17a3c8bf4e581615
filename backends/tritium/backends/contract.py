"""What a tensor backend is: it completes a configuration, and opens instances of a model version.

A package adds one by an entry point in the group `tritium.backends`, named as `backend:` in config.pbtxt names
it; the entry point is called without arguments and returns a TensorBackend.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from tritium.backends.metrics import CustomMetrics
from tritium.compat.config.model import ModelConfig
from tritium.core.catalog import Catalog
from tritium.core.instance import Instance
from tritium.core.request import InferRequest, Reply


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a version comes from: `folder` is the model's directory, `version_folder` is `folder`/`version`."""

    config: ModelConfig
    folder: Path
    version: str

    @property
    def version_folder(self) -> Path:
        """Return the directory of this version's files."""
        return self.folder / self.version


@dataclass(frozen=True, slots=True)
class InstancePlace:
    """Which instance to open: `name` as Triton names it (MODEL_0, or GROUP_0), `kind` CPU, GPU or MODEL."""

    name: str
    kind: str = "CPU"
    device: int = 0


@dataclass(frozen=True, slots=True)
class BackendHost:
    """What the server lends a backend.

    `settings` are the `--backend-config=NAME,key=value` pairs. `submit` runs a request of a model on another
    model of this server (business logic scripting), `catalog` loads and unloads them. `changed` is called when an
    instance's health changes. `metrics` are those that models define for themselves.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    submit: Callable[[InferRequest, Reply], None] | None = None
    changed: Callable[[], None] = lambda: None
    catalog: Catalog | None = None
    metrics: CustomMetrics = field(default_factory=CustomMetrics)


class TensorBackend(Protocol):
    """A way to run tensor models."""

    name: str

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in what the configuration leaves out and the model itself knows (auto-complete).

        Raises:
            InferenceError: the model's files are missing, or contradict the configuration.
        """
        ...

    async def open(self, source: ModelSource, place: InstancePlace, host: BackendHost) -> Instance:
        """Load the model into one instance, ready to execute.

        Raises:
            InferenceError: the model cannot be loaded; the message is what the repository index will show.
        """
        ...


@runtime_checkable
class ConfiguredBackend(Protocol):
    """A backend that has settings of its own, which it is told once, before anything else is asked of it."""

    def configure(self, settings: Mapping[str, str]) -> None:
        """Take the `--backend-config` pairs of this backend.

        Raises:
            InferenceError: a value cannot be; every model of the backend is refused with that reason.
        """
        ...
