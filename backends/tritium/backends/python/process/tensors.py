"""Tensors between the model's objects and frames: small ones inline, large ones in shared memory."""

import threading
from typing import Any

import numpy as np

from tritium.backends.python.arena import InArena, OutArena
from tritium.backends.python.frames import INLINE_BYTES, Region, ResponseFrame, TensorFrame
from tritium.compat.pb_utils.tensor import ReceivedTensor, Tensor


class TensorCodec:
    """Encodes tensors into one arena and decodes them from the other; safe to use from several threads."""

    def __init__(self, inbound: InArena, outbound: OutArena) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._storing = threading.Lock()

    @property
    def free_bytes(self) -> int:
        """Return the bytes of the outbound arena that hold nothing."""
        return self._outbound.free_bytes

    def decode(self, frame: TensorFrame) -> Tensor:
        """Make the model's tensor; its memory may be written to."""
        data = frame.data
        raw: Any = self._inbound.array(data) if isinstance(data, Region) else bytearray(data)
        return ReceivedTensor(frame.name, frame.datatype, frame.shape, raw)

    def encode(self, tensor: Tensor, *, lend: bool = False) -> TensorFrame:
        """Make the frame of a tensor.

        With `lend`, an input that is an output as it came is not copied; the caller drops every reference it has
        to the execution's tensors, and then calls `settle`.
        """
        payload: Any = tensor.payload()
        array = payload if isinstance(payload, np.ndarray) else np.frombuffer(payload, np.uint8)
        data: bytes | Region | None = None
        if array.nbytes <= INLINE_BYTES:
            data = array.tobytes()
        elif lend:
            data = self._inbound.lend(array)
        if data is None:
            data = self._store(array)
        return TensorFrame(tensor.name(), tensor.datatype.name, tensor.dims, data)

    def settle(self, response: ResponseFrame) -> None:
        """Copy what was lent and is still referred to: the model may yet write to it."""
        for frame in response.outputs:
            if isinstance(frame.data, Region) and frame.data.inbound:
                kept = self._inbound.settle(frame.data)
                if kept is not None:
                    frame.data = self._store(kept)

    def discard(self, response: ResponseFrame) -> None:
        """Take back what was stored for a response that will not be sent."""
        for frame in response.outputs:
            if isinstance(frame.data, Region):
                if frame.data.inbound:
                    self._inbound.keep(frame.data)
                else:
                    self._outbound.give_back([frame.data.start])

    def take_back(self, starts: list[int]) -> None:
        """Take back what the server no longer refers to, at once if nobody is storing."""
        self._outbound.give_back(starts)
        if self._storing.acquire(blocking=False):
            try:
                self._outbound.reclaim()
            finally:
                self._storing.release()

    def _store(self, array: np.ndarray[Any, Any]) -> Region:
        with self._storing:
            return self._outbound.store(array.reshape(-1).view(np.uint8).data)
