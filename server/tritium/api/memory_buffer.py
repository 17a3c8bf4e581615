"""Memory of a tensor of the Python API, by address, with the object that owns it."""

import ctypes
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from tritium.api.errors import InvalidArgumentError

_HOST = (1, 3)
"""DLPack's kinds of device whose memory the host reads."""


class MemoryType(IntEnum):
    """Kinds of memory, numbered as TRITONSERVER_MemoryType. Here it is always the host's."""

    CPU = 0
    CPU_PINNED = 1
    GPU = 2


@dataclass
class MemoryBuffer:
    """`size` bytes at `data_ptr`. They belong to `owner`, which is kept for as long as this is."""

    data_ptr: int
    memory_type: MemoryType
    memory_type_id: int
    size: int
    owner: Any

    @staticmethod
    def from_dlpack(owner: Any) -> "MemoryBuffer":
        """Return the memory of an object that offers DLPack.

        Raises:
            InvalidArgumentError: it does not, or its memory is a device's, or not contiguous.
        """
        if not hasattr(owner, "__dlpack__"):
            raise InvalidArgumentError("Object does not support DLpack protocol")
        if int(owner.__dlpack_device__()[0]) not in _HOST:
            raise InvalidArgumentError("the memory is not the host's: move it there first")
        array = owner if isinstance(owner, np.ndarray) else np.from_dlpack(owner)
        if not array.flags.c_contiguous:
            raise InvalidArgumentError("Only contiguous memory is supported")
        return MemoryBuffer(array.ctypes.data, MemoryType.CPU, 0, array.nbytes, owner)

    def view(self) -> "np.ndarray[Any, Any]":
        """View the memory as bytes.

        Raises:
            InvalidArgumentError: it is a device's.
        """
        if self.memory_type == MemoryType.GPU:
            raise InvalidArgumentError("the memory is a device's: there is none here")
        block = (ctypes.c_uint8 * self.size).from_address(self.data_ptr)
        block.owner = self.owner  # type: ignore[attr-defined]  # arrays keep the block
        return np.frombuffer(memoryview(block).cast("B"), np.uint8)
