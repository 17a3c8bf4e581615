"""The `reshape` of configured inputs and outputs: clients see `dims`, the model sees `reshape.shape`.

Only shapes change, never data; where either side has variable dimensions they are carried over in order.
Source: Triton core, infer_request.cc (inputs) and infer_response.cc (outputs).
"""

from collections.abc import Mapping, Sequence

from tritium.compat.config.model import ModelConfig, TensorSpec
from tritium.core.errors import InferenceError
from tritium.core.request import InferResponse, Reply
from tritium.core.tensor import Tensor

Shape = tuple[int, ...]


class Reshape:
    """The reshaping of one model; tensors are replaced, not changed, for others may hold them too."""

    def __init__(self, config: ModelConfig) -> None:
        self._batches = config.batches
        self._inputs = _reshaped(config.inputs)
        self._outputs = _reshaped(config.outputs)
        self.changes_inputs = bool(self._inputs)
        self.changes_outputs = bool(self._outputs)

    def inputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return a request's inputs as the model wants them."""
        return [self._as(tensor, self._inputs.get(tensor.name), to_model=True) for tensor in tensors]

    def outputs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return a model's outputs as the client wants them."""
        return [self._as(tensor, self._outputs.get(tensor.name), to_model=False) for tensor in tensors]

    def _as(self, tensor: Tensor, pair: tuple[Shape, Shape] | None, *, to_model: bool) -> Tensor:
        if pair is None:
            return tensor
        source, target = pair if to_model else reversed(pair)
        batch, shape = (tensor.shape[:1], tensor.shape[1:]) if self._batches else ((), tensor.shape)
        variable = iter([got for got, configured in zip(shape, source, strict=False) if configured == -1])
        moved = batch + tuple(next(variable, -1) if dim == -1 else dim for dim in target)
        return Tensor(tensor.name, tensor.datatype, moved, tensor.data)


class ReshapedReply:
    """A reply that gets responses in the shapes that the client sees, for models without an Answer before it."""

    __slots__ = ("_reply", "_reshape")

    def __init__(self, reply: Reply, reshape: Reshape) -> None:
        self._reply = reply
        self._reshape = reshape

    def send(self, response: InferResponse | InferenceError | None, *, final: bool) -> None:
        """Reshape the outputs of one response and pass it on."""
        if isinstance(response, InferResponse):
            response.outputs = self._reshape.outputs(response.outputs)
        self._reply.send(response, final=final)


def _reshaped(specs: Mapping[str, TensorSpec]) -> dict[str, tuple[Shape, Shape]]:
    return {spec.name: (spec.dims, spec.reshape) for spec in specs.values() if spec.reshape is not None}
