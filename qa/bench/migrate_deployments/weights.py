"""Stand-in weights for configurations without a model file: every output a row of fixed weights times the inputs' mean.

Rows are the batch, or the first dimension where it may vary. The same function in three forms: an ONNX graph, a
TorchScript module, and (in stand_ins) a python model.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tritium.compat.datatypes import BY_CONFIG_VALUE


def write_onnx(config: Any, path: Path) -> None:
    """Write an ONNX graph with the configuration's tensors, of numbers."""
    inputs = [_value(tensor, config) for tensor in config.input] + list(_controls(config))
    outputs = [_value(tensor, config) for tensor in config.output]
    first = config.input[0]
    nodes = [helper.make_node("Cast", [first.name], ["numbers"], to=TensorProto.FLOAT)]
    constants = [numpy_helper.from_array(np.array([1, -1], np.int64), "whole")]
    if _in_rows(first, config):
        nodes.append(helper.make_node("Flatten", ["numbers"], ["rows"], axis=1))
    else:
        nodes.append(helper.make_node("Reshape", ["numbers", "whole"], ["rows"]))
    nodes.append(helper.make_node("ReduceMean", ["rows"], ["means"], axes=[1], keepdims=1))
    for tensor in config.output:
        shape = _shape(tensor, config)
        name = tensor.name
        weights, dims = np.array([row(prod(shape[1:]))], np.float32), np.array(shape, np.int64)
        constants += [numpy_helper.from_array(weights, f"{name}.w"), numpy_helper.from_array(dims, f"{name}.dims")]
        nodes += [
            helper.make_node("MatMul", ["means", f"{name}.w"], [f"{name}.flat"]),
            helper.make_node("Tanh", [f"{name}.flat"], [f"{name}.bounded"]),
            helper.make_node("Reshape", [f"{name}.bounded", f"{name}.dims"], [f"{name}.shaped"]),
            helper.make_node("Cast", [f"{name}.shaped"], [name], to=_type(tensor)),
        ]
    graph = helper.make_graph(nodes, "stand_in", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def write_torchscript(config: Any, path: Path) -> None:
    """Write a TorchScript module that takes the configuration's inputs in their order."""
    import torch  # noqa: PLC0415  (only deployments with TorchScript wait for it)

    class Weighing(torch.nn.Module):
        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            numbers = inputs[0].to(torch.float32)
            rows = numbers.flatten(1) if in_rows else numbers.reshape(1, -1)
            return torch.tanh(rows.mean(1, keepdim=True) * weights).reshape(shape)

    in_rows, shape = _in_rows(config.input[0], config), _shape(config.output[0], config)
    weights = torch.tensor([row(prod(shape[1:]))], dtype=torch.float32)
    kinds = {"INT64": torch.int64, "INT32": torch.int32, "FP32": torch.float32}
    examples = tuple(
        torch.ones([2, *_sizes(tensor)] if config.max_batch_size else _sizes(tensor),
                   dtype=kinds[BY_CONFIG_VALUE[tensor.data_type].name])
        for tensor in config.input
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    traced = torch.jit.trace(Weighing(), examples)  # type: ignore[no-untyped-call]  # torch's own is not typed
    torch.jit.save(traced, str(path))


def row(count: int) -> list[float]:
    """Return the weights of one output."""
    return [((7 * index) % 11 - 5) / 5 for index in range(count)]


def _controls(config: Any) -> Iterator[Any]:
    """Yield the inputs by which a server tells of sequences; the graph takes them and goes without."""
    for tensor in config.sequence_batching.control_input:
        for control in tensor.control:
            kind = TensorProto.FLOAT if control.fp32_false_true else TensorProto.INT32
            kind = TensorProto.BOOL if control.bool_false_true else kind
            if control.data_type:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(BY_CONFIG_VALUE[control.data_type].numpy))
            yield helper.make_tensor_value_info(tensor.name, int(kind), [None, 1])


def _in_rows(tensor: Any, config: Any) -> bool:
    return bool(config.max_batch_size) or tensor.dims[0] == -1


def _sizes(tensor: Any) -> list[int]:
    return [size if size > 0 else 2 for size in tensor.dims]


def _shape(tensor: Any, config: Any) -> list[int]:
    """Return the shape of an output, rows as -1."""
    dims = list(tensor.dims)
    if config.max_batch_size:
        return [-1, *dims]
    return [-1, *dims[1:]] if dims[0] == -1 else [1, *dims]


def _value(tensor: Any, config: Any) -> Any:
    dims: list[Any] = [None if size == -1 else size for size in tensor.dims]
    return helper.make_tensor_value_info(tensor.name, _type(tensor), [None, *dims] if config.max_batch_size else dims)


def _type(tensor: Any) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(BY_CONFIG_VALUE[tensor.data_type].numpy)))
