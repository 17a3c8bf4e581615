"""TorchScript in its process: the arguments of `forward` matched with the configuration, then called per batch.

Rules and words: ValidateInputs, Execute and ReadOutputTensors of pytorch_backend (pt/model_instance_state.cc, 2.73).
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tritium.backends.hosted.batch import Batch, Value
from tritium.backends.hosted.configured import Configured, Refused
from tritium.backends.hosted.model import HostedModel
from tritium.backends.pytorch.naming import check_controls, place_inputs, place_outputs
from tritium.backends.pytorch.values import CONFIG_TYPES, from_torch, to_torch
from tritium.compat.pb_utils import Logger, TritonError

_SWITCHES = {
    "DISABLE_OPTIMIZED_EXECUTION": ("Optimized execution", False),
    "INFERENCE_MODE": ("Inference Mode", True),
    "ENABLE_CACHE_CLEANING": ("Cache Cleaning", True),
    "DISABLE_CUDNN": ("cuDNN", False),
    "ENABLE_WEIGHT_SHARING": ("Weight sharing", True),
    "ENABLE_TENSOR_FUSER": ("Tensor fuser", True),
    "ENABLE_JIT_PROFILING": ("Jit profiling", True),
    "ENABLE_JIT_EXECUTOR": ("Jit executor", True),
}
"""What the log calls each switch, and whether true turns it on."""

_NO_RESULT = (
    "output must be of type Tensor, List[str] or Tuple containing one of these two types. It should not be a List / "
    "Dictionary of Tensors or a Scalar"
)


class TritonPythonModel(HostedModel):
    """One TorchScript module."""

    def load(self, model: Configured) -> None:
        """Load model.pt and find the place of every tensor."""
        _set_threads(model)
        _set_executor(model)
        _tell_switches(model)
        self._optimized = not model.flag("DISABLE_OPTIMIZED_EXECUTION", default=False)
        self._inference_mode = model.flag("INFERENCE_MODE", default=True)
        self._clean = model.flag("ENABLE_CACHE_CLEANING", default=False) and model.kind != "CPU"
        self._device = torch.device(f"cuda:{model.device}" if model.kind == "GPU" else "cpu")
        path = model.version_folder / (model.filename or "model.pt")
        try:
            with self._mode():
                # KIND_MODEL leaves every part of the model where it was saved.
                place = None if model.kind == "MODEL" else self._device
                self._module = torch.jit.load(str(path), place)  # type: ignore[no-untyped-call]  # torch leaves it so
        except Exception as error:  # noqa: BLE001  # whatever torch raises is why it cannot be loaded
            raise Refused(f"failed to load model '{model.name}': {error}") from None
        self._take_signature(model)
        for what, ports in (("input", model.inputs), ("output", model.outputs)):
            if not ports:
                raise Refused(f"model configuration must contain at least one {what}, none were specified.")
        self._results = place_outputs(model)
        states = {port.name: port for port in model.states_out}
        self._ports = {**states, **model.outputs}

    def run(self, batch: Batch) -> Mapping[str, Value]:
        """Call `forward`, and read its results by their places."""
        with self._mode(), torch.jit.optimized_execution(self._optimized):  # type: ignore[attr-defined]  # not in its __all__
            arguments = self._arguments(batch)
            try:
                returned = self._module(*arguments)
                results = _results(returned)
            except Exception as error:  # noqa: BLE001  # whatever the model raises is the answer
                raise Refused(f"PyTorch execute failure: {error}") from None
            outputs = {name: from_torch(port, self._result(name, results)) for name, port in self._ports.items()}
        if self._clean:
            torch.cuda.empty_cache()
        return outputs

    def _mode(self) -> contextlib.AbstractContextManager[None]:
        return torch.inference_mode() if self._inference_mode else torch.no_grad()

    def _take_signature(self, model: Configured) -> None:
        schema = self._module._c._get_method("forward").schema  # noqa: SLF001  # torch has no public way to ask
        arguments = [argument for argument in schema.arguments if argument.type.kind() != "ClassType"]
        self._by_name = len(arguments) == 1 and arguments[0].type.kind() == "DictType"
        expected = len(model.inputs) + len(model.batch_inputs) + len(model.controls) + len(model.states_in)
        if self._by_name:
            return
        if any(argument.type.kind() == "DictType" for argument in arguments[1:]):
            raise Refused(
                "Multiple inputs of kind DictType were detected. Only a single input of type Dict(str, Tensor) "
                "is supported."
            )
        for argument in arguments:
            if argument.type.kind() not in ("TensorType", "ListType"):
                raise Refused(
                    f"An input of type '{argument.type.str()}' was detected in the model. Only a single input of type "
                    "Dict(str, Tensor) or input(s) of type Tensor are supported."
                )
        if len(arguments) != expected:
            raise Refused(
                f"unable to load model '{model.name}', configuration expects {expected} inputs, "
                f"model provides {len(arguments)}",
                TritonError.INVALID_ARG,
            )
        check_controls(model, CONFIG_TYPES)
        self._places = place_inputs(model, [argument.name for argument in arguments])

    def _arguments(self, batch: Batch) -> list[Any]:
        given = {name: to_torch(name, value, self._device) for name, value in batch.inputs.items()}
        if self._by_name:
            return [given]
        missing = self._places.keys() - given.keys()
        if missing:
            raise Refused(
                f"forward needs input '{min(missing)}', which the request does not have", TritonError.INVALID_ARG
            )
        return [given[name] for name in sorted(self._places, key=self._places.__getitem__)]

    def _result(self, name: str, results: Sequence[Any]) -> Any:
        place = self._results[name]
        if place >= len(results):
            raise Refused(
                f"The output {name} in the model configuration refers to an output index which doesn't exist. "
                f"This model has {len(results)} outputs",
                TritonError.INVALID_ARG,
            )
        return results[place]


def _results(returned: Any) -> Sequence[Any]:
    """Return what `forward` returned as a sequence of tensors and lists of strings."""
    if isinstance(returned, torch.Tensor):
        return (returned,)
    if isinstance(returned, list):
        _check_texts(returned, "output must be of type Tensor or List[str]")
        return (returned,)
    if not isinstance(returned, tuple):
        raise TypeError(_NO_RESULT)
    for place, result in enumerate(returned):
        if isinstance(result, list):
            _check_texts(result, f"output at index {place} must be of type Tensor or List[str]")
        elif not isinstance(result, torch.Tensor):
            raise TypeError(f"output at index {place} must be of type Tensor or List[str], received {_kind(result)}")
    return returned


def _check_texts(found: list[Any], rule: str) -> None:
    if found and not isinstance(found[0], str):
        raise TypeError(f"{rule}, received List[{_kind(found[0])}]")


def _kind(value: Any) -> str:
    return "Tensor" if isinstance(value, torch.Tensor) else type(value).__name__


def _set_threads(model: Configured) -> None:
    intra, inter = model.count("INTRA_OP_THREAD_COUNT"), model.count("INTER_OP_THREAD_COUNT")
    if intra > 0:
        torch.set_num_threads(intra)
    if inter > 0:
        torch.set_num_interop_threads(inter)


def _set_executor(model: Configured) -> None:
    """Switch parts of the JIT on or off where the configuration says so; these are switches of the process."""
    torch.backends.cudnn.enabled = not model.flag("DISABLE_CUDNN", default=False)
    model.flag("ENABLE_WEIGHT_SHARING", default=False)
    switches = {
        "ENABLE_JIT_PROFILING": torch._C._jit_set_profiling_mode,  # noqa: SLF001  # as pytorch_backend does
        "ENABLE_JIT_EXECUTOR": torch._C._jit_set_profiling_executor,  # noqa: SLF001
        "ENABLE_TENSOR_FUSER": torch._C._jit_set_texpr_fuser_enabled,  # noqa: SLF001
    }
    for name, switch in switches.items():
        if name in model.parameters:
            switch(model.flag(name, default=True))


def _tell_switches(model: Configured) -> None:
    for name, (called, on) in _SWITCHES.items():
        if name in model.parameters:
            state = "enabled" if model.flag(name, default=on) is on else "disabled"
            Logger.log_info(f"{called} is {state} for model instance '{model.name}'")
