"""A tensor as models see it: a name and a numpy array, made only when asked for."""

import math
from typing import Any

import numpy as np

from tritium.compat.datatypes import BY_NAME, Datatype
from tritium.compat.pb_utils.bfloat16 import as_bfloat16, as_uint16, is_bfloat16
from tritium.compat.pb_utils.conversion import datatype_of, join, split
from tritium.compat.pb_utils.errors import TritonModelException

_DLPACK_CPU = (1, 0)


class Tensor:
    """Inputs are views of shared memory or of the message they came in, and may be written to."""

    __slots__ = ("_array", "_name", "_raw", "datatype", "dims")

    datatype: Datatype
    dims: tuple[int, ...]
    """The sizes of the dimensions, as they are kept."""

    def __init__(self, name: str, array: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a tensor's name must be a str, not {type(name).__name__}")
        if not isinstance(array, np.ndarray):
            raise TypeError(f"Tensor '{name}' needs a numpy array, not {type(array).__name__}")
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        self._name = name
        self.datatype = datatype_of(array.dtype)
        self.dims = array.shape
        self._array: np.ndarray[Any, Any] | None = array
        self._raw: Any = None

    def name(self) -> str:
        """Return the name."""
        return self._name

    def triton_dtype(self) -> int:
        """Return the number of the datatype, as DataType in model_config.proto."""
        return self.datatype.config_value

    def shape(self) -> list[int]:
        """Return the sizes of the dimensions."""
        return list(self.dims)

    def is_cpu(self) -> bool:
        """Tell whether the tensor lies in host memory; here it always does."""
        return True

    def as_numpy(self) -> np.ndarray[Any, Any]:
        """Return the array, without a copy.

        Raises:
            TritonModelException: BF16, which numpy does not have.
        """
        if self.datatype.name == "BF16":
            raise TritonModelException(
                "Tensor dtype is BF16 and cannot be converted to NumPy. Use to_dlpack() and from_dlpack() instead."
            )
        return self._numpy() if self._array is None else self._array

    def _numpy(self) -> np.ndarray[Any, Any]:
        if self._array is None:
            if self.datatype.fixed:
                self._array = np.ndarray(self.dims, self.datatype.numpy, self._raw)
            else:
                elements = np.empty(math.prod(self.dims), dtype=np.object_)
                elements[:] = split(self._raw)
                self._array = elements.reshape(self.dims)
        return self._array

    def payload(self) -> "bytes | np.ndarray[Any, Any]":
        """Return the v2 binary data: `bytes`, or a C-contiguous little-endian array that holds it."""
        if self._array is None:
            return self._raw  # type: ignore[no-any-return]  # as received: bytes-like
        if not self.datatype.fixed:
            return join(self._array.ravel().tolist())
        array = self._array
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        return np.ascontiguousarray(array)

    def to_dlpack(self) -> Any:
        """Return a DLPack capsule of the data."""
        return self.__dlpack__()

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        if not self.datatype.fixed:
            raise TritonModelException("DLPack does not have support for string tensors.")
        if stream is not None:
            raise TritonModelException("DLPack stream must be None for a tensor in host memory")
        array = self._numpy()
        if self.datatype.name == "BF16":
            return as_bfloat16(array.view(np.uint16).__dlpack__())
        return array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CPU

    @staticmethod
    def from_dlpack(name: str, tensor: Any) -> "Tensor":
        """Make a tensor of a DLPack capsule, or of an object that offers one, without a copy.

        Raises:
            TritonModelException: neither of the two, or memory that is not the host's.
        """
        if name == "":
            raise TritonModelException("Tensor name cannot be an empty string.")
        if type(tensor).__name__ == "PyCapsule":
            capsule = tensor
        elif hasattr(tensor, "__dlpack__") and hasattr(tensor, "__dlpack_device__"):
            device = tensor.__dlpack_device__()[0]
            if device != _DLPACK_CPU[0]:
                raise TritonModelException(f"DLDevice type {int(device)} is not support by Python backend.")
            capsule = tensor.__dlpack__()
        else:
            raise TritonModelException(
                "Provided tensor is not supported. Tensor must be a DLPack capsule "
                "or have `__dlpack__` and `__dlpack_device__` attributes"
            )
        if not is_bfloat16(capsule):
            return Tensor(name, np.from_dlpack(_Offer(capsule)))
        array = np.from_dlpack(_Offer(as_uint16(capsule)))
        return ReceivedTensor(name, "BF16", array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


class ReceivedTensor(Tensor):
    """A tensor of v2 binary data, which is a bytes-like object or a uint8 array."""

    __slots__ = ()

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...], raw: Any) -> None:
        self._name = name
        self.datatype = BY_NAME[datatype]
        self.dims = shape
        self._array = None
        self._raw = raw


class _Offer:
    """Hands a bare capsule to numpy, which takes only objects that offer one."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CPU
