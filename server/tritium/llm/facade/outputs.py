"""Output tensors made of what a language model says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritium.compat.config.model import ModelConfig, from_proto
from tritium.compat.protobufs import model_config_pb2
from tritium.core.tensor import Tensor, from_array, join_bytes

TensorRow = tuple[str, str, Sequence[int]]
"""Name, datatype in v2's words, and dimensions of an input or output."""


def texts(name: str, values: Sequence[str]) -> Tensor:
    """Make a BYTES tensor of strings, in one dimension."""
    return Tensor(name, "BYTES", (len(values),), join_bytes(values))


def floats(name: str, values: Any) -> Tensor:
    """Make an FP32 tensor of nested lists."""
    return from_array(name, np.array(values, dtype=np.float32), "FP32")


def integers(name: str, values: Any, datatype: str = "INT32") -> Tensor:
    """Make a tensor of integers of nested lists."""
    return from_array(name, np.array(values), datatype)


def completed(
    config: ModelConfig,
    inputs: Sequence[TensorRow],
    outputs: Sequence[TensorRow],
    *,
    required: frozenset[str],
    max_batch_size: int | None = None,
    decoupled: bool | None = None,
) -> ModelConfig:
    """Add the tensors that a configuration leaves out, and set its batching and its transaction policy if given."""
    proto = model_config_pb2.ModelConfig()
    proto.CopyFrom(config.proto)
    there = {one.name for one in proto.input}
    for name, datatype, dims in inputs:
        if name not in there:
            proto.input.add(name=name, data_type=_enum(datatype), dims=dims, optional=name not in required)
    there = {one.name for one in proto.output}
    for name, datatype, dims in outputs:
        if name not in there:
            proto.output.add(name=name, data_type=_enum(datatype), dims=dims)
    if max_batch_size is not None:
        proto.max_batch_size = max_batch_size
    if decoupled is not None:
        proto.model_transaction_policy.decoupled = decoupled
    return from_proto(proto)


def _enum(datatype: str) -> Any:
    return model_config_pb2.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")
