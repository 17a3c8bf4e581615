"""The door of the openvino backend."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.hosted.backend import complete_hosted, model_path, need, open_hosted, setting_number
from tritium.backends.python.instance import PythonInstance
from tritium.backends.python.interpreter import ENVIRONMENT_PARAMETER
from tritium.compat.config.model import ModelConfig, from_proto
from tritium.core.errors import InvalidArgument

_RUNTIME: Final = "tritium.backends.openvino.model"
_FILE: Final = "model.xml"


class OpenVinoBackend:
    """Opens OpenVINO models; see `contract.TensorBackend`."""

    name = "openvino"

    def __init__(self) -> None:
        self._default_max_batch_size = 4

    def configure(self, settings: Mapping[str, str]) -> None:
        """Take default-max-batch-size.

        Raises:
            InvalidArgument: it is no number.
        """
        self._default_max_batch_size = setting_number(settings, "default-max-batch-size", self._default_max_batch_size)

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:
        """Fill in tensors where there are none; batch size and dynamic batching where the layouts have a batch.

        Raises:
            InferenceError: the file is missing or no model.
        """
        self._check(config, folder, version)
        proto = (await complete_hosted(config, folder, version, _RUNTIME)).proto
        if config.max_batch_size == 0 and proto.max_batch_size:
            proto.max_batch_size = max(1, self._default_max_batch_size)
        if proto.max_batch_size <= 1 and not config.proto.HasField("dynamic_batching"):
            proto.ClearField("dynamic_batching")
        return from_proto(proto)

    async def open(self, source: ModelSource, place: InstancePlace, host: BackendHost) -> PythonInstance:
        """Start a process, import openvino there and compile the model.

        Raises:
            InferenceError: openvino is not installed, or the model cannot be loaded.
        """
        if place.kind != "CPU":
            raise InvalidArgument(
                f"unable to load model '{source.config.name}', Triton OpenVINO backend supports only Kind CPU and AUTO",
                hint="write kind: KIND_CPU; the parameter TARGET_DEVICE names another device of OpenVINO's",
            )
        self._check(source.config, source.folder, source.version)
        return await open_hosted(source, place, host, _RUNTIME)

    def _check(self, config: ModelConfig, folder: Path, version: str) -> None:
        model_path(config, folder, version, _FILE)
        if not config.parameter(ENVIRONMENT_PARAMETER):
            need("openvino", "openvino")
