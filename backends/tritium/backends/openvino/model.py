"""An OpenVINO model in its process: read, matched with the configuration, compiled, executed.

Batches: a model whose shapes allow it gets an open batch dimension. One that does not (or is told not to, by
SKIP_OV_DYNAMIC_BATCHSIZE or ENABLE_BATCH_PADDING) gets max_batch_size as its one size; other batches are then padded
where that is allowed, and refused in Triton's words where it is not.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import openvino as ov  # type: ignore[import-untyped]  # it ships no types

from tritium.backends.hosted.batch import Array, Batch, Value
from tritium.backends.hosted.configured import Configured, Port, Refused
from tritium.backends.hosted.model import HostedModel
from tritium.backends.openvino.properties import handling, properties
from tritium.backends.openvino.shapes import Bounds, check_shape
from tritium.compat import pb_utils
from tritium.compat.pb_utils import Logger, TritonError

_COMPILATION: Final = "COMPILATION_NUM_THREADS"
_TYPES: Final = {
    "BOOL": ov.Type.boolean,
    "UINT8": ov.Type.u8,
    "UINT16": ov.Type.u16,
    "UINT32": ov.Type.u32,
    "UINT64": ov.Type.u64,
    "INT8": ov.Type.i8,
    "INT16": ov.Type.i16,
    "INT32": ov.Type.i32,
    "INT64": ov.Type.i64,
    "FP16": ov.Type.f16,
    "FP32": ov.Type.f32,
    "FP64": ov.Type.f64,
}


class TritonPythonModel(HostedModel):
    """One compiled model."""

    @staticmethod
    def auto_complete_config(config: pb_utils.ModelConfig) -> pb_utils.ModelConfig:
        """Fill in tensors that are missing, and that the model batches where its layouts say so.

        How large a batch, and whether it is gathered at all, is for the server's settings to say.
        """
        found: dict[str, Any] = dict(config.as_dict())
        path = f"{pb_utils.get_model_dir()}/{found['default_model_filename'] or 'model.xml'}"
        read = _read(ov.Core(), found["name"], path)
        layouts = [ov.layout_helpers.get_layout(port) for port in (*read.inputs, *read.outputs)]
        if all(ov.layout_helpers.has_batch(layout) for layout in layouts):
            found["max_batch_size"] = found["max_batch_size"] or 1
            if "sequence_batching" not in found:
                found.setdefault("dynamic_batching", {})
        for role, ports in (("input", read.inputs), ("output", read.outputs)):
            found[role] = found[role] or [_described(port, batches=found["max_batch_size"] > 0) for port in ports]
        return pb_utils.ModelConfig(json.dumps(found))

    def load(self, model: Configured) -> None:
        """Read the file, give it the configuration's datatypes and batch, and compile it."""
        how = handling(model)
        self._padding = how.padding
        core = ov.Core()
        if how.extension:
            _try("loading custom CPU extensions", core.add_extension, how.extension)
        read = _read(core, model.name, str(model.version_folder / (model.filename or "model.xml")))
        prepared = _prepared(read, model, reshape=how.reshape)
        self._fixed_rows = 0
        if model.batches:
            opened = None if how.static else _with_open_batch(prepared, model.max_batch_size)
            if opened is None:
                self._fixed_rows = model.max_batch_size
                _try("setting max batch size", ov.set_batch, prepared, model.max_batch_size)
            prepared = opened or prepared
        _check_outputs(prepared, model)
        _try("configuring openvino core", core.set_property, how.device, _supported(core, how.device, model))
        batching = {"ALLOW_AUTO_BATCHING": model.batches and not how.static}
        compiled = _try("loading model", core.compile_model, prepared, how.device, batching)
        self._request = compiled.create_infer_request()

    def run(self, batch: Batch) -> Mapping[str, Value]:
        """Run one batch, padded to the one size where the model has one."""
        rows, fixed = batch.rows, self._fixed_rows
        if fixed and rows != fixed and not self._padding:
            raise Refused(
                f"expected requests with batch size '{fixed}', got '{rows}'... this error can be avoided by setting "
                "'ENABLE_BATCH_PADDING' parameter in model configuration to 'YES' at a performance cost."
            )
        for name, value in batch.inputs.items():
            array = _padded(value.array, fixed) if fixed else np.ascontiguousarray(value.array)
            _try("setting tensor data", self._request.set_tensor, name, ov.Tensor(array, shared_memory=True))
        _try("running inference", self._request.infer)
        outputs = {name: self._request.get_tensor(name).data for name in self.model.outputs}
        return {
            name: Value(self.model.outputs[name].datatype, array[:rows] if fixed else array)
            for name, array in outputs.items()
        }


def _supported(core: Any, device: str, model: Configured) -> dict[str, Any]:
    """Return the properties of a model without COMPILATION_NUM_THREADS where the device no longer has it."""
    wanted = dict(properties(model))
    if _COMPILATION in wanted:
        known = _try("configuring openvino core", core.get_property, device, "SUPPORTED_PROPERTIES")
        if _COMPILATION not in known:
            del wanted[_COMPILATION]
            Logger.log_warn(f"{_COMPILATION} of model '{model.name}' has no effect: device {device} does not have it")
    return wanted


def _read(core: Any, name: str, path: str) -> Any:
    read = _try("reading model", core.read_model, path)
    for port in (*read.inputs, *read.outputs):
        if not port.names:
            raise Refused(
                f"unable to load model '{name}', one of its tensors has no name: save the model with names for its "
                "inputs and outputs",
                TritonError.INVALID_ARG,
            )
    return read


def _described(port: Any, *, batches: bool) -> dict[str, Any]:
    """Return an input or output as config.pbtxt has it.

    Triton leaves all dimensions open where one is, and then refuses what it has filled in itself.
    """
    datatype = next((name for name, kind in _TYPES.items() if kind == port.element_type), "INVALID")
    dims = [dim.get_length() if dim.is_static else -1 for dim in port.partial_shape]
    return {"name": port.any_name, "data_type": f"TYPE_{datatype}", "dims": dims[batches:]}


def _prepared(read: Any, model: Configured, *, reshape: bool) -> Any:
    """Return the model with the datatypes of the configuration, and with its shapes where `reshape` says so."""
    if len(read.inputs) != len(model.inputs):
        raise Refused(
            f"unable to load model '{model.name}', configuration expects {len(model.inputs)} inputs, "
            f"model provides {len(read.inputs)}",
            TritonError.INVALID_ARG,
        )
    found = {port.name: _port_of(model, port, read.inputs, "input") for port in model.inputs.values()}
    if reshape:
        wanted = {
            name: _reshaped(at.partial_shape, model.inputs[name].dims, batches=model.batches)
            for name, at in found.items()
        }
        _try("reshaping the inputs", read.reshape, wanted)
    process = ov.preprocess.PrePostProcessor(read)
    for port in model.inputs.values():
        tensor = process.input(port.name).tensor()
        tensor.set_element_type(_TYPES[port.datatype])
        if not reshape:
            check_shape(model, port, _bounds(found[port.name].partial_shape), output=False)
        if model.batches:
            tensor.set_layout(ov.Layout("N..."))
    for port in model.outputs.values():
        _port_of(model, port, read.outputs, "output")
        process.output(port.name).tensor().set_element_type(_TYPES[port.datatype])
    return _try("apply model input preprocessing", process.build)


def _check_outputs(prepared: Any, model: Configured) -> None:
    for port in model.outputs.values():
        found = _port_of(model, port, prepared.outputs, "output")
        check_shape(model, port, _bounds(found.partial_shape), output=True)


def _with_open_batch(prepared: Any, most: int) -> Any:
    """Return the model with a batch of any size up to `most`, None where its operations do not allow that."""
    opened = prepared.clone()
    try:
        ov.set_batch(opened, ov.Dimension(1, most))
    except RuntimeError:
        return None
    follows = all(len(port.partial_shape) and port.partial_shape[0].is_dynamic for port in opened.outputs)
    return opened if follows else None


def _port_of(model: Configured, port: Port, found: Sequence[Any], what: str) -> Any:
    if port.datatype not in _TYPES:
        raise Refused(f"unsupported datatype {port.config_type} for {what} '{port.name}' for model '{model.name}'")
    for candidate in found:
        if port.name in candidate.names:
            return candidate
    allowed = ", ".join(sorted(candidate.any_name for candidate in found))
    raise Refused(f"unexpected inference {what} '{port.name}', allowed {what}s are: {allowed}", TritonError.INVALID_ARG)


def _bounds(shape: Any) -> list[Bounds]:
    return [(dim.get_min_length(), dim.get_max_length() if _bounded(dim) else -1) for dim in shape]


def _bounded(dim: Any) -> bool:
    return bool(dim.is_static or dim.get_max_length() >= 0)


def _reshaped(shape: Any, dims: Sequence[int], *, batches: bool) -> Any:
    first = [shape[0]] if batches else []
    return ov.PartialShape([*first, *(ov.Dimension() if dim == -1 else ov.Dimension(dim) for dim in dims)])


def _padded(array: Array, rows: int) -> Array:
    if array.shape[0] == rows:
        return np.ascontiguousarray(array)
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: array.shape[0]] = array
    return padded


def _try(doing: str, call: Any, *arguments: Any) -> Any:
    """Call OpenVINO; what it raises is told with what was being done, as Triton tells it."""
    try:
        return call(*arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise Refused(f"openvino error in {doing} : {' '.join(str(error).split())}") from None
