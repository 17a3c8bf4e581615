"""The requests of one execution as one batch of arrays, and its results as each request's share.

Arrays are numpy's; BF16, which numpy lacks, is its bit patterns as uint16, and BYTES an object array of `bytes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritium.backends.hosted.configured import Refused
from tritium.compat.pb_utils import InferenceRequest, InferenceResponse, Tensor, TritonError
from tritium.compat.pb_utils.tensor import ReceivedTensor

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of a whole batch."""

    datatype: str
    array: Array


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of an execution; `sizes` are the rows of each request, 0 where the model does not batch."""

    inputs: Mapping[str, Value]
    sizes: Sequence[int]

    @property
    def rows(self) -> int:
        """Return how many rows the batch has."""
        return sum(self.sizes)


def gather(requests: Sequence[InferenceRequest], ragged: frozenset[str], *, batches: bool) -> Batch:
    """Join the inputs of requests along their first dimension; ragged ones end to end, without dimensions.

    Raises:
        Refused: inputs that should have one shape differ, or requests that are no batch came together.
    """
    first = requests[0].inputs()
    sizes = [request.inputs()[0].shape()[0] if batches and request.inputs() else 0 for request in requests]
    if len(requests) == 1 and not ragged:
        return Batch({tensor.name(): Value(tensor.datatype.name, _array(tensor)) for tensor in first}, sizes)
    if not batches and len(requests) > 1:
        raise Refused(f"{len(requests)} requests cannot be one batch of a model whose max_batch_size is 0")
    by_name = [{tensor.name(): tensor for tensor in request.inputs()} for request in requests]
    inputs: dict[str, Value] = {}
    for name, tensor in by_name[0].items():
        try:
            arrays = [_array(tensors[name]) for tensors in by_name]
            joined = np.concatenate([a.ravel() for a in arrays]) if name in ragged else np.concatenate(arrays)
        except (KeyError, ValueError) as error:
            raise Refused(f"input '{name}' cannot be batched: {error}", TritonError.INVALID_ARG) from None
        inputs[name] = Value(tensor.datatype.name, joined)
    return Batch(inputs, sizes)


def scatter(batch: Batch, outputs: Mapping[str, Value]) -> list[InferenceResponse]:
    """Give each request its rows of the outputs.

    Raises:
        Refused: an output does not have the batch's rows.
    """
    if batch.sizes[0] == 0 and len(batch.sizes) == 1:
        return [InferenceResponse([_tensor(name, value.datatype, value.array) for name, value in outputs.items()])]
    rows = batch.rows
    for name, value in outputs.items():
        if not value.array.shape or value.array.shape[0] != rows:
            raise Refused(
                f"output '{name}' has shape {list(value.array.shape)}, but a batch of {rows} needs {rows} "
                "as its first dimension"
            )
    responses, start = [], 0
    for size in batch.sizes:
        share = slice(start, start + size)
        responses.append(
            InferenceResponse([_tensor(name, value.datatype, value.array[share]) for name, value in outputs.items()])
        )
        start += size
    return responses


def _array(tensor: Tensor) -> Array:
    if tensor.datatype.name == "BF16":
        return np.ndarray(tensor.shape(), np.uint16, tensor.payload())
    return tensor.as_numpy()


def _tensor(name: str, datatype: str, array: Array) -> Tensor:
    if datatype == "BF16":
        return ReceivedTensor(name, datatype, array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return Tensor(name, array)
