"""Memory by its address, and the tensors over it."""

import gc
import weakref

import numpy as np
import pytest

from tritium.api import InvalidArgumentError, MemoryBuffer, MemoryType, Tensor


class Owner:
    """What keeps an array."""

    def __init__(self) -> None:
        self.array = np.arange(6, dtype=np.float32)


def test_a_tensor_views_memory_and_keeps_its_owner() -> None:
    """A tensor over memory sees what changes there, and the owner lives for as long as an array over it."""
    owner = Owner()
    array, alive = owner.array, weakref.ref(owner)
    tensor = Tensor("FP32", (2, 3), MemoryBuffer(array.ctypes.data, MemoryType.CPU, 0, array.nbytes, owner))
    array[5] = 50
    del owner, array
    seen = np.from_dlpack(tensor)
    buffer = tensor.memory_buffer
    assert (buffer.size, buffer.memory_type, buffer.memory_type_id) == (24, MemoryType.CPU, 0)
    del tensor, buffer
    gc.collect()
    assert alive() is not None
    assert seen.tolist() == [[0, 1, 2], [3, 4, 50]]
    del seen
    gc.collect()
    assert alive() is None


def test_memory_of_arrays() -> None:
    """An array's memory is named by DLPack; memory with gaps, of a device, or of no array is refused."""
    array = np.arange(4, dtype=np.int64)
    buffer = MemoryBuffer.from_dlpack(array)
    assert (buffer.data_ptr, buffer.size, buffer.owner is array) == (array.ctypes.data, 32, True)
    with pytest.raises(InvalidArgumentError, match="contiguous"):
        MemoryBuffer.from_dlpack(array[::2])
    with pytest.raises(InvalidArgumentError, match="DLpack"):
        MemoryBuffer.from_dlpack(b"abc")
    with pytest.raises(InvalidArgumentError, match="device"):
        Tensor("INT64", (4,), MemoryBuffer(0, MemoryType.GPU, 0, 32, None))
