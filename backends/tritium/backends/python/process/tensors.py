"""Tensors between the model's objects and frames: small ones inline, large ones in shared memory."""

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from tritium.backends.python.arena import InArena, OutArena
from tritium.backends.python.frames import INLINE_BYTES, Region, TensorFrame
from tritium.compat.pb_utils.tensor import ReceivedTensor, Tensor


class TensorCodec:
    """Encodes tensors into one arena and decodes them from the other; safe to use from several threads."""

    def __init__(self, inbound: InArena, outbound: OutArena) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._returned: deque[int] = deque()
        self._storing = threading.Lock()

    def decode(self, frame: TensorFrame) -> Tensor:
        """Make the model's tensor; its memory may be written to."""
        data = frame.data
        raw: Any = self._inbound.array(data) if isinstance(data, Region) else bytearray(data)
        return ReceivedTensor(frame.name, frame.datatype, frame.shape, raw)

    def encode(self, tensor: Tensor) -> TensorFrame:
        """Make the frame of an output."""
        payload: Any = tensor.payload()
        size = payload.nbytes if isinstance(payload, np.ndarray) else len(payload)
        data: bytes | Region
        if size <= INLINE_BYTES:
            data = payload.tobytes() if isinstance(payload, np.ndarray) else bytes(payload)
        else:
            with self._storing:
                self.reclaim()
                data = self._outbound.store(memoryview(payload).cast("B"))
        return TensorFrame(tensor.name(), tensor.datatype.name, tuple(tensor.shape()), data)

    def discard(self, frames: Iterable[TensorFrame]) -> None:
        """Take back what was stored for frames that will not be sent."""
        self._returned.extend(frame.data.start for frame in frames if isinstance(frame.data, Region))

    def on_freed(self, starts: list[int]) -> None:
        """Note what the server no longer refers to; called while reading, so nothing is done about it yet."""
        self._returned.extend(starts)

    def reclaim(self) -> None:
        """Make what was given back available again. The caller sees that no other thread stores."""
        starts: list[int] = []
        while self._returned:
            starts.append(self._returned.popleft())
        if starts:
            self._outbound.free(starts)
