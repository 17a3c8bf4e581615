"""How a model directory becomes a Model; one loader a kind of backend, composed by the command line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tritium.backends.contract import ModelSource
from tritium.compat.config.finding import Finding
from tritium.compat.config.model import ModelConfig
from tritium.compat.config.problem import Problem
from tritium.core.model import Model

Check = Callable[[ModelConfig, Path, str], Sequence[Finding | Problem]]
"""Finds what is wrong with a version by its files alone: configuration, folder of the model, version."""


Offer = Callable[[ModelSource], Callable[[Model], None] | None]
"""Reads, before a version is loaded, what it is offered as beside its tensors; what it returns is given the model.

Raises:
    InferenceError: what is said of that is wrong; the version is not loaded.
"""


def offer_nothing(source: ModelSource) -> None:
    """Offer tensors alone."""


class Loader(Protocol):
    """Loads the models of one backend."""

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in what the configuration leaves out and the model itself knows.

        Raises:
            InferenceError: the model's files are missing, or contradict the configuration.
        """
        ...

    async def load(self, source: ModelSource) -> Model:
        """Load one version, ready to serve.

        Raises:
            InferenceError: the model cannot be loaded; the message is what the repository index will show.
        """
        ...


@runtime_checkable
class ChangingLoader(Protocol):
    """A loader whose models can be given other instances while they serve."""

    async def change_instances(self, model: Model, groups: Sequence[Any], wait_s: float) -> None:
        """Let a version have the instances that these groups of a configuration ask for.

        Raises:
            InferenceError: one cannot be opened; the version goes on with those it has.
        """
        ...


@runtime_checkable
class CheckingLoader(Protocol):
    """A loader that can also tell, within milliseconds and without loading, what would make a load fail."""

    def check(self, config: ModelConfig, folder: Path, version: str) -> Sequence[Finding | Problem]:
        """Return what is wrong in the configuration (findings) and in the version's files (problems)."""
        ...
