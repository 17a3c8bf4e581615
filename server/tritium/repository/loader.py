"""How a model directory becomes a Model; one loader a kind of backend, composed by the command line."""

from pathlib import Path
from typing import Protocol

from tritium.backends.contract import ModelSource
from tritium.compat.config.model import ModelConfig
from tritium.core.model import Model


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
