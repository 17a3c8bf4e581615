"""A response as a cache keeps it: its own copy of the outputs, without what belongs to the request."""

from dataclasses import dataclass
from typing import Final

from tritium.core.request import InferResponse, Parameter
from tritium.core.tensor import Tensor

ENTRY_BYTES: Final = 256
"""What an entry costs beside its tensors: key, lists, the place in the order of use."""
TENSOR_BYTES: Final = 256
"""What a tensor costs beside its data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept response; `size_bytes` is what it takes up in memory."""

    outputs: tuple[Tensor, ...]
    parameters: dict[str, Parameter]
    size_bytes: int

    def response(self, model: str, version: str, request_id: str) -> InferResponse:
        """Make the response to a request of it."""
        return InferResponse(model, version, request_id, list(self.outputs), dict(self.parameters))


def entry_of(response: InferResponse) -> Entry:
    """Copy what is to be kept: a model may give out views of memory that it will use again."""
    outputs = tuple(
        Tensor(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in response.outputs
    )
    return entry(outputs, dict(response.parameters))


def entry(outputs: tuple[Tensor, ...], parameters: dict[str, Parameter]) -> Entry:
    """Return an entry of these outputs."""
    size_bytes = ENTRY_BYTES + sum(TENSOR_BYTES + tensor.size_bytes for tensor in outputs)
    return Entry(outputs, parameters, size_bytes)
