"""Batches of inputs that differ in shape, and the tensors that tell a model where one ends and the next begins.

    requests' inputs -> ragged ones end to end, without dimensions; others stacked
                     -> the configuration's `batch_input`: counts and shapes of the ragged ones
    the model's outputs -> `batch_output`: each request's share has the shape of its input

Source: Triton backend, backend_input_collector.cc and backend_output_responder.cc; model_config.proto, BatchInput.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np

from tritium.compat.config.model import ModelConfig
from tritium.compat.datatypes import BY_CONFIG_VALUE
from tritium.core.errors import InvalidArgument, ModelFailed
from tritium.core.stack import skip_elements, stack
from tritium.core.tensor import Tensor, from_array

Shape = tuple[int, ...]
Numbers = np.ndarray[Any, Any]


def _counts(shapes: Sequence[Shape]) -> list[int]:
    return [math.prod(shape) for shape in shapes]


def _item_shapes(shapes: Sequence[Shape]) -> Numbers:
    """Return the shape of every batch element, a row each."""
    if len({len(shape) for shape in shapes}) > 1:
        raise InvalidArgument("inputs of one batch must have the same number of dimensions")
    rows = [shape[1:] for shape in shapes for _ in range(shape[0])]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(shapes[0]) - 1)


_KINDS: Final[Mapping[str, Callable[[Sequence[Shape]], Numbers]]] = {
    "BATCH_ELEMENT_COUNT": lambda shapes: np.array(_counts(shapes)),
    "BATCH_ACCUMULATED_ELEMENT_COUNT": lambda shapes: np.array(list(accumulate(_counts(shapes)))),
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": lambda shapes: np.array([0, *accumulate(_counts(shapes))]),
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": lambda shapes: np.zeros(max(_counts(shapes))),
    "BATCH_ITEM_SHAPE": _item_shapes,
    "BATCH_ITEM_SHAPE_FLATTEN": lambda shapes: _item_shapes(shapes).reshape(-1),
}
"""The numbers of each kind of `batch_input`, from the shapes of its source input in the requests of a batch."""


@dataclass(frozen=True, slots=True)
class _Made:
    kind: str
    datatype: str
    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scattered:
    """An output whose shares have the shapes of an input, where `dims` (batch dimension first) leave them open."""

    source: str
    dims: Shape


class RaggedBatches:
    """The batches of one model; `any` is false where its configuration knows nothing of all this."""

    def __init__(self, config: ModelConfig) -> None:
        batch = (-1,) if config.batches else ()
        self.ragged = frozenset(spec.name for spec in config.inputs.values() if spec.ragged) if batch else frozenset()
        self._made = [
            _Made(
                made.Kind.Name(made.kind),
                BY_CONFIG_VALUE[made.data_type].name,
                made.source_input[0],
                tuple(made.target_name),
            )
            for made in config.proto.batch_input
        ]
        self._scattered = {
            target: _Scattered(output.source_input[0], (*batch, *config.outputs[target].dims))
            for output in config.proto.batch_output
            for target in output.target_name
        }
        self.any = bool(self.ragged or self._made or self._scattered)

    def join(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        """Return one input of all requests as one tensor.

        Raises:
            InvalidArgument: they differ in shape, and the input is not ragged.
        """
        if name not in self.ragged:
            return stack(tensors)
        count = sum(math.prod(tensor.shape) for tensor in tensors)
        data = tensors[0].data if len(tensors) == 1 else b"".join(tensor.data for tensor in tensors)
        return Tensor(name, tensors[0].datatype, (count,), data)

    def made(self, shapes: Mapping[str, Sequence[Shape]]) -> list[Tensor]:
        """Make the tensors of `batch_input`; `shapes` are by input those of every request, in order."""
        return [
            from_array(target, _KINDS[made.kind](shapes[made.source]), made.datatype)
            for made in self._made
            for target in made.targets
        ]

    def source(self, output: str) -> str:
        """Return the input whose shapes an output's shares have; "" where they are rows of the batch."""
        scattered = self._scattered.get(output)
        return scattered.source if scattered else ""

    def scatter(self, tensor: Tensor, shapes: Sequence[Shape]) -> list[Tensor]:
        """Cut an output into shares; `shapes` are those of its source input.

        Raises:
            ModelFailed: it has more or fewer elements than they ask for.
        """
        dims = self._scattered[tensor.name].dims
        shares = [tuple(got if dim == -1 else dim for dim, got in zip(dims, shape, strict=False)) for shape in shapes]
        counts = _counts(shares)
        if sum(counts) != math.prod(tensor.shape):
            raise ModelFailed(
                f"output '{tensor.name}' has {math.prod(tensor.shape)} elements, but the inputs it is scattered to "
                f"have {sum(counts)}"
            )
        view = memoryview(tensor.data).cast("B")
        element_bytes = 0 if tensor.datatype == "BYTES" else len(view) // max(1, sum(counts))
        cut, at = [], 0
        for shape, count in zip(shares, counts, strict=True):
            end = at + count * element_bytes if element_bytes else skip_elements(view, at, count)
            cut.append(Tensor(tensor.name, tensor.datatype, shape, view[at:end]))
            at = end
        return cut
