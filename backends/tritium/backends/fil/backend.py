"""The door of the fil backend: which file a model is, by its `model_type`."""

from pathlib import Path
from typing import Final

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.fil.files import DEFAULT_KIND, FILES
from tritium.backends.hosted.backend import complete_hosted, model_path, need, open_hosted
from tritium.backends.python.instance import PythonInstance
from tritium.backends.python.interpreter import ENVIRONMENT_PARAMETER
from tritium.compat.config.model import ModelConfig
from tritium.core.errors import InvalidArgument

_RUNTIME: Final = "tritium.backends.fil.forest"


class FilBackend:
    """Opens forests; see `contract.TensorBackend`."""

    name = "fil"

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in input__0 and output__0 where there are none, for the model knows its features and classes.

        Raises:
            InferenceError: the file is missing or no forest.
        """
        if config.inputs and config.outputs:
            return config
        _check(config, folder, version)
        return await complete_hosted(config, folder, version, _RUNTIME)

    async def open(self, source: ModelSource, place: InstancePlace, host: BackendHost) -> PythonInstance:
        """Start a process, import treelite there and load the forest.

        Raises:
            InferenceError: treelite is not installed, or the model cannot be loaded.
        """
        _check(source.config, source.folder, source.version)
        return await open_hosted(source, place, host, _RUNTIME)


def _check(config: ModelConfig, folder: Path, version: str) -> None:
    kind = config.parameter("model_type", DEFAULT_KIND)
    if kind not in FILES:
        raise InvalidArgument(
            f"model_type '{kind}' of model '{config.name}' is unknown", hint=f"one of {', '.join(FILES)}"
        )
    model_path(config, folder, version, FILES[kind])
    if not config.parameter(ENVIRONMENT_PARAMETER):
        need("treelite", "fil")
