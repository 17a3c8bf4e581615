"""The door of the pytorch backend: which of its three runtimes runs a model, by its configuration and files."""

from pathlib import Path
from typing import Final

from tritium.backends.contract import BackendHost, InstancePlace, ModelSource
from tritium.backends.hosted.backend import model_path, need, open_hosted
from tritium.backends.python.instance import PythonInstance
from tritium.backends.python.interpreter import ENVIRONMENT_PARAMETER
from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.compat.datatypes import BY_NAME
from tritium.core.errors import Internal

_SCRIPT: Final = "tritium.backends.pytorch.script"
_ARCHIVE: Final = "tritium.backends.pytorch.archive"
_MODULE: Final = "tritium.backends.pytorch.module"

_UNKNOWN_TO_TORCH: Final = frozenset({"UINT16", "UINT32", "UINT64"})


class PyTorchBackend:
    """Opens PyTorch models; see `contract.TensorBackend`."""

    name = "pytorch"

    async def complete(self, config: ModelConfig, folder: Path, version: str) -> ModelConfig:  # noqa: ARG002  contract
        """Return the configuration as it is: TorchScript does not say shapes and datatypes, nor does Triton guess."""
        return config

    async def open(self, source: ModelSource, place: InstancePlace, host: BackendHost) -> PythonInstance:
        """Start a process, import torch there and load the model.

        Raises:
            InferenceError: torch is not installed, or the model cannot be loaded.
        """
        config = source.config
        runtime = _runtime(config)
        model_path(config, source.folder, source.version, *_usual_files(runtime))
        if runtime != _MODULE:
            _check_tensors(config)
        if not config.parameter(ENVIRONMENT_PARAMETER):
            need("torch", "torch")
        return await open_hosted(source, place, host, runtime)


def _runtime(config: ModelConfig) -> str:
    """Choose as pytorch_backend does: `runtime: "model.py"`, the platform, else the file's ending."""
    filename = config.proto.default_model_filename
    if config.proto.runtime == "model.py" or filename.endswith(".py"):
        return _MODULE
    if config.platform == "torch_aoti" or (not config.platform and filename.endswith(".pt2")):
        return _ARCHIVE
    return _SCRIPT


def _usual_files(runtime: str) -> tuple[str, ...]:
    return {_SCRIPT: ("model.pt",), _ARCHIVE: ("model.pt2",), _MODULE: ("model.py", "model.pt")}[runtime]


def _check_tensors(config: ModelConfig) -> None:
    for what, specs in (("input", config.inputs), ("output", config.outputs)):
        for spec in specs.values():
            _check_tensor(config, spec, what)


def _check_tensor(config: ModelConfig, spec: TensorSpec, what: str) -> None:
    if spec.datatype in _UNKNOWN_TO_TORCH:
        raise Internal(
            f"unsupported datatype {BY_NAME[spec.datatype].config_name} for {what} '{spec.name}' "
            f"for model '{config.name}'",
            hint="PyTorch computes on signed integers, UINT8, floats and BOOL",
        )
    dims = spec.dims if spec.reshape is None else spec.reshape
    if spec.datatype == "BYTES" and len(dims) + config.batches > 1:
        raise Internal(
            f"Triton only supports 1 dimensional List of String as {what} for '{spec.name}' for model '{config.name}'",
            hint="dims: [ 1 ] and a reshape to [ ] in a model that batches; dims: [ -1 ] in one that does not",
        )
