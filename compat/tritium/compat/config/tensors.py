"""The rules of inputs and outputs: names, datatypes, dims, reshape, and the batch tensors made of them.

Triton checks them when it loads the model, after its backend has filled in what the file leaves out.
Source: ValidateModelIOConfig and what it calls, core/src/model_config_utils.cc.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tritium.compat.config.finding import Finding, Path
from tritium.compat.config.problem import Stage

TENSORRT = "tensorrt_plan"
_INT32_AND_FP32 = (8, 11)


def check_tensors(config: Any, *, complete: bool) -> Iterator[Finding]:
    """Find what is wrong with inputs and outputs; `complete` False allows what auto-completion may still add."""
    for kind, tensors in (("input", config.input), ("output", config.output)):
        for index, tensor in enumerate(tensors):
            for where, message, hint in _tensor(config, kind, tensor, complete=complete):
                yield Finding((kind, index, *where), f"{message} for {config.name}", hint, Stage.LOAD)
    for where, message in _batch_tensors(config):
        yield Finding(where, f"{message} for {config.name}", "", Stage.LOAD)


def _tensor(config: Any, kind: str, tensor: Any, *, complete: bool) -> Iterator[tuple[Path, str, str]]:
    if not tensor.name:
        yield (), f"model {kind} must specify 'name'", "give it the name that the model uses"
        return
    said = f"model {kind} '{tensor.name}'"
    if complete and tensor.data_type == 0:
        yield ("name",), f"{said} must specify 'data_type'", "such as data_type: TYPE_FP32"
    if complete and not tensor.dims:
        yield ("name",), f"{said} must specify 'dims'", "such as dims: [ -1 ], without the batch dimension"
    yield from _dims(config, tensor, said)
    if kind == "input" and tensor.format in (tensor.FORMAT_NHWC, tensor.FORMAT_NCHW) and len(tensor.dims) != 3:
        yield ("format",), "model input NHWC/NCHW require 3 dims", ""
    if tensor.is_shape_tensor and config.platform != TENSORRT:
        yield ("is_shape_tensor",), "shape tensors are only supported for TensorRT platform", ""
    if tensor.is_non_linear_format_io and config.platform != TENSORRT:
        message = "Non-linear IO format is only supported for the TensorRT platform"
        yield ("is_non_linear_format_io",), message, ""


def _dims(config: Any, tensor: Any, said: str) -> Iterator[tuple[Path, str, str]]:
    rest = "must be integer >= 1, or -1 to indicate a variable-size dimension"
    bad = [("dims", index) for index, dim in enumerate(tensor.dims) if not _is_dim(dim)]
    if bad:
        hint = "the batch dimension is not written: max_batch_size stands for it" if bad[0] == ("dims", 0) else ""
        yield bad[0], f"{said} dimension {rest}", hint
    if not tensor.HasField("reshape"):
        return
    shape = tensor.reshape.shape
    if not shape and config.max_batch_size == 0:
        message = f"{said} cannot have empty reshape for non-batching model as scalar tensors are not supported"
        yield ("reshape",), message, "set max_batch_size, or reshape to [ 1 ]"
        return
    bad_shape = [("reshape", "shape", index) for index, dim in enumerate(shape) if not _is_dim(dim)]
    if bad_shape:
        yield bad_shape[0], f"{said} reshape dimensions {rest}", ""
    elif not bad and tensor.dims and (mismatch := _reshape_mismatch(tensor.dims, shape)):
        yield ("reshape",), f"{said} {mismatch}", f"dims hold {_shown(tensor.dims)}, reshape {_shown(shape)}"


def _is_dim(dim: int) -> bool:
    return dim >= 1 or dim == -1


def _reshape_mismatch(dims: Sequence[int], shape: Sequence[int]) -> str:
    """Compare element counts, piece by piece between the variable dimensions: [2,4,-1,6] goes to [8,-1,1,6]."""
    here, there = _pieces(dims), _pieces(shape)
    if not shape and here == [1]:
        return ""
    if (len(here) == 1) != (len(there) == 1):
        return "has different size for dims and reshape"
    if len(here) != len(there):
        return "has different number of variable-size dimensions for dims and reshape"
    return "" if here == there else "has different size for dims and reshape"


def _pieces(dims: Sequence[int]) -> list[int]:
    pieces, current = [], 1
    for dim in dims:
        if dim == -1:
            pieces.append(current)
            current = 1
        else:
            current *= dim
    return [*pieces, current]


def _shown(dims: Sequence[int]) -> str:
    return "a variable number of elements" if -1 in dims else f"{math.prod(dims)} elements"


def _batch_tensors(config: Any) -> Iterator[tuple[Path, str]]:
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    for index, tensor in enumerate(config.batch_input):
        kind = tensor.Kind.Name(tensor.kind) if tensor.kind in tensor.Kind.values() else str(tensor.kind)
        yield from _sources(("batch_input", index), f"batch input kind '{kind}'", tensor.source_input, inputs)
        if tensor.data_type not in _INT32_AND_FP32:
            yield ("batch_input", index, "data_type"), "batch input data type must be TYPE_INT32 or TYPE_FP32"
    for index, tensor in enumerate(config.batch_output):
        kind = tensor.Kind.Name(tensor.kind) if tensor.kind in tensor.Kind.values() else str(tensor.kind)
        yield from _sources(("batch_output", index), f"batch output kind '{kind}'", tensor.source_input, inputs)
        for place, name in enumerate(tensor.target_name):
            where = ("batch_output", index, "target_name", place)
            if name not in outputs:
                yield where, f"unknown target output name '{name}'"
            elif name in tensor.target_name[:place]:
                yield where, f"target output name '{name}' can only be specified once"


def _sources(where: Path, said: str, sources: Sequence[str], inputs: set[str]) -> Iterator[tuple[Path, str]]:
    if len(sources) != 1:
        yield (*where, "source_input"), f"{said} expects 1 source input, got {len(sources)}"
    for place, name in enumerate(sources):
        if name not in inputs:
            yield (*where, "source_input", place), f"unknown source input name '{name}'"
