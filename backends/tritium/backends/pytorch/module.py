"""The PyTorch 2 runtime in its process: a torch.nn.Module class of model.py, with its weights, compiled by torch.

Rules and words: model.py of pytorch_backend (2.73). A TorchScript file is run as well where there is no model.py.
"""

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tritium.backends.hosted.batch import Batch, Value
from tritium.backends.hosted.configured import Configured, Refused
from tritium.backends.hosted.model import HostedModel
from tritium.backends.pytorch.values import to_torch, value_of
from tritium.compat.pb_utils import Logger, TritonError

_COMPILE = "TORCH_COMPILE_OPTIONAL_PARAMETERS"


class TritonPythonModel(HostedModel):
    """One module; its inputs and outputs are matched by their order in the configuration."""

    def load(self, model: Configured) -> None:
        """Make the module, give it its weights, and have torch compile it."""
        settings = {name: model.count(name, 1) for name in ("NUM_THREADS", "NUM_INTEROP_THREADS")}
        torch.set_num_threads(settings["NUM_THREADS"])
        torch.set_num_interop_threads(settings["NUM_INTEROP_THREADS"])
        said = " ".join(f"{name} = {value};" for name, value in settings.items())
        Logger.log_verbose(f"Torch parallelism settings for '{model.name}': {said}")
        options = _compile_options(model)
        Logger.log_verbose(f"'torch.compile' optional parameter(s) for '{model.name}': {options}")
        path = _model_file(model)
        if path.suffix != ".py":
            Logger.log_info(f"Loading '{model.name}' as TorchScript")
            self._module = self._placed(_script(model, path), model)
            return
        raw = _module_class(model, path)()
        self._module = self._placed(raw, model)
        weights = path.with_suffix(".pt")
        if weights.exists():
            raw.load_state_dict(torch.load(weights, map_location=self._device))
        else:
            Logger.log_info(f"Model parameter file not found for '{model.name}'")
        if _can_compile(options):
            self._module = torch.compile(raw, **options)
        else:
            Logger.log_warn(f"'{model.name}' runs without torch.compile: no C++ compiler (g++ or clang++) was found")

    def run(self, batch: Batch) -> Mapping[str, Value]:
        """Call the module with the inputs in the order of the configuration."""
        missing = [name for name in self.model.inputs if name not in batch.inputs]
        if missing:
            raise Refused(f"the request has no input '{missing[0]}'", TritonError.INVALID_ARG)
        arguments = [to_torch(name, batch.inputs[name], self._device) for name in self.model.inputs]
        try:
            with torch.inference_mode():
                returned = self._module(*arguments)
        except Exception as error:  # noqa: BLE001  # whatever the model raises is the answer
            raise Refused(f"PyTorch execute failure: {type(error).__name__}: {error}") from None
        results = returned if isinstance(returned, tuple | list) else [returned]
        if len(results) < len(self.model.outputs):
            raise Refused(
                f"the model returned {len(results)} outputs, the configuration has {len(self.model.outputs)}",
                TritonError.INVALID_ARG,
            )
        return {name: value_of(name, result) for name, result in zip(self.model.outputs, results, strict=False)}

    def _placed(self, module: Any, model: Configured) -> Any:
        if model.kind == "MODEL":
            parameter = next(iter(module.parameters()), None)
            if parameter is None:
                raise Refused("TritonModelException: Cannot determine model device")
            self._device = parameter.device
        else:
            self._device = torch.device(f"cuda:{model.device}" if model.kind == "GPU" else "cpu")
        return module.to(self._device).eval()


def _model_file(model: Configured) -> Path:
    names = [model.filename] * bool(model.filename) + ["model.py", "model.pt"]
    for name in names:
        if (path := model.version_folder / name).exists():
            return path
    raise Refused(f"No model found in {model.version_folder}/{names}", TritonError.UNAVAILABLE)


def _script(model: Configured, path: Path) -> Any:
    try:
        return torch.jit.load(str(path))  # type: ignore[no-untyped-call]  # torch leaves it so
    except Exception as error:  # noqa: BLE001  # whatever torch raises is why it cannot be loaded
        raise Refused(f"failed to load model '{model.name}': {error}") from None


def _module_class(model: Configured, path: Path) -> Any:
    """Return the torch.nn.Module of a file: one that it defines itself before one that it imports."""
    spec = importlib.util.spec_from_file_location(model.name, path)
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    found = [value for _, value in sorted(vars(source).items()) if _is_module_class(value)]
    own = [value for value in found if value.__module__ == source.__name__]
    if not found:
        raise Refused("Cannot find a subclass of torch.nn.Module", TritonError.INVALID_ARG)
    return (own or found)[0]


def _is_module_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, torch.nn.Module)


def _compile_options(model: Configured) -> dict[str, Any]:
    text = model.parameters.get(_COMPILE)
    if text is None:
        return {}
    try:
        options = json.loads(text)
    except json.JSONDecodeError as error:
        raise Refused(f"parameter {_COMPILE} is not JSON: {error}", TritonError.INVALID_ARG) from None
    if not isinstance(options, dict):
        raise Refused(f"parameter {_COMPILE} is not a JSON object: {text}", TritonError.INVALID_ARG)
    if "model" in options:
        raise Refused("'model' is not an optional parameter for 'torch.compile'", TritonError.INVALID_ARG)
    return options


def _can_compile(options: Mapping[str, Any]) -> bool:
    """Tell whether torch's own compiler finds the C++ compiler that it needs on a CPU."""
    if options.get("disable") or options.get("backend", "inductor") != "inductor":
        return True
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "g++", "clang++"))
