"""Tensors of models in this process: copied once in, so that a model may write to them, and once out."""

from typing import Any

import numpy as np

from tritium.backends.python.frames import ResponseFrame, TensorFrame
from tritium.compat.pb_utils.tensor import ReceivedTensor, Tensor


class LocalCodec:
    """See `process.link.Codec`. Nothing is lent here, so there is nothing to settle and nothing to give back."""

    free_bytes = 0
    """There is no memory set aside."""

    def decode(self, frame: TensorFrame) -> Tensor:
        """Make the model's tensor; its memory may be written to."""
        data: Any = frame.data
        return ReceivedTensor(frame.name, frame.datatype, frame.shape, bytearray(data))

    def encode(self, tensor: Tensor, *, lend: bool = False) -> TensorFrame:  # noqa: ARG002  # the protocol's
        """Make the frame of a tensor; what the model does to it afterwards is not seen."""
        payload = tensor.payload()
        data = payload.tobytes() if isinstance(payload, np.ndarray) else bytes(payload)
        return TensorFrame(tensor.name(), tensor.datatype.name, tensor.dims, data)

    def settle(self, response: ResponseFrame) -> None:
        """Do nothing."""

    def discard(self, response: ResponseFrame) -> None:
        """Do nothing."""
