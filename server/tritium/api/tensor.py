"""A tensor of the Python API: a view of memory that numpy, torch and others take over by DLPack, without a copy."""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

from tritium.api.errors import InvalidArgumentError
from tritium.api.memory_buffer import MemoryBuffer, MemoryType
from tritium.compat.datatypes import BY_NAME, DATATYPES
from tritium.compat.pb_utils.bfloat16 import as_bfloat16, as_uint16, is_bfloat16
from tritium.core import tensor as core
from tritium.core.errors import InvalidArgument

DataType = Enum("DataType", {kind.name: kind.name for kind in DATATYPES}, type=str)  # type: ignore[misc]  # from the table
"""The datatypes by their v2 names."""

_CPU = (1, 0)
_BY_DTYPE = {kind.numpy: kind.name for kind in DATATYPES if kind.name not in {"BF16", "BYTES"}}


class Tensor:
    """A datatype, a shape and memory. BYTES tensors hold the v2 form: each element behind its length."""

    __slots__ = ("_data", "data_type", "shape")

    def __init__(
        self, data_type: str, shape: Sequence[int], data: "MemoryBuffer | core.Buffer | np.ndarray[Any, Any]"
    ) -> None:
        self.data_type = DataType(data_type)
        self.shape: Sequence[int] = tuple(shape)
        if isinstance(data, MemoryBuffer):
            data = data.view()
        self._data = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)

    @staticmethod
    def from_dlpack(obj: Any) -> "Tensor":
        """View the memory of an object that offers DLPack, or of a capsule.

        Raises:
            InvalidArgumentError: not in host memory, not contiguous, or of a type that no tensor has.
        """
        if isinstance(obj, np.ndarray):
            return _of_array(obj)
        if not hasattr(obj, "__dlpack__"):
            raise InvalidArgumentError(f"a tensor is made of arrays, not of {type(obj).__name__}")
        if int(obj.__dlpack_device__()[0]) not in (1, 3):
            raise InvalidArgumentError("the tensor is not in host memory: move it there first")
        capsule = obj.__dlpack__()
        if is_bfloat16(capsule):
            array = np.from_dlpack(_Offer(as_uint16(capsule)))
            return Tensor("BF16", array.shape, np.ascontiguousarray(array))
        return _of_array(np.from_dlpack(_Offer(capsule)))

    @staticmethod
    def from_string_array(strings: "Sequence[Any] | np.ndarray[Any, Any]") -> "Tensor":
        """Encode strings, of any shape."""
        return Tensor.from_bytes_array(np.array(strings, dtype=np.object_))

    @staticmethod
    def from_bytes_array(elements: "Sequence[Any] | np.ndarray[Any, Any]") -> "Tensor":
        """Encode bytes or strings, of any shape."""
        array = np.array(elements, dtype=np.object_)
        return Tensor("BYTES", array.shape, core.join_bytes(array.ravel().tolist()))

    @property
    def memory_buffer(self) -> MemoryBuffer:
        """Return the memory, which this tensor owns."""
        return MemoryBuffer(self.data_ptr, self.memory_type, self.memory_type_id, self.size, self)

    @property
    def data_ptr(self) -> int:
        """Return the address of the memory."""
        address: int = self._data.__array_interface__["data"][0]
        return address

    @property
    def memory_type(self) -> MemoryType:
        """Return the kind of memory."""
        return MemoryType.CPU

    @property
    def memory_type_id(self) -> int:
        """Return which memory of its kind."""
        return 0

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return int(self._data.nbytes)

    def to_host(self) -> "Tensor":
        """Return the tensor in host memory, which is where it is."""
        return self

    def to_numpy(self) -> np.ndarray[Any, Any]:
        """View the data as an array (BYTES: decoded into an object array of `bytes`; BF16: uint16 bit patterns)."""
        kind = BY_NAME[self.data_type.value]
        if not kind.fixed:
            return self.to_bytes_array()
        flat = self._data.reshape(-1)
        return (flat if flat.dtype == kind.numpy else flat.view(kind.numpy)).reshape(self.shape)

    def to_bytes_array(self) -> np.ndarray[Any, Any]:
        """Decode into an object array of `bytes`.

        Raises:
            InvalidArgumentError: the tensor does not hold BYTES, or lengths do not add up.
        """
        if self.data_type.value != "BYTES":
            raise InvalidArgumentError(f"a tensor of {self.data_type.value} has no strings: use numpy.from_dlpack")
        try:
            return core.split_bytes(self._data.data, math.prod(self.shape), "").reshape(self.shape)
        except InvalidArgument as error:
            raise InvalidArgumentError(error.message) from None

    def to_string_array(self) -> np.ndarray[Any, Any]:
        """Decode into an array of `str`.

        Raises:
            InvalidArgumentError: the tensor does not hold BYTES, or they are not UTF-8.
        """
        elements = self.to_bytes_array()
        try:
            decoded = [element.decode() for element in elements.ravel()]
        except UnicodeDecodeError as error:
            raise InvalidArgumentError(f"the tensor holds bytes that are no text: {error}") from None
        return np.array(decoded, dtype=np.str_).reshape(elements.shape)

    def __dlpack__(self, *, stream: Any = None, **_: Any) -> Any:
        if self.data_type.value == "BYTES":
            raise InvalidArgumentError("DLPack has no strings: use to_bytes_array() or to_string_array()")
        if stream is not None:
            raise InvalidArgumentError("a tensor in host memory has no stream")
        array = self.to_numpy()
        if not array.flags.writeable:
            # DLPack has no word for memory that may not be written to; whoever takes it must have its own.
            array = array.copy()
        capsule = array.__dlpack__()
        return as_bfloat16(capsule) if self.data_type.value == "BF16" else capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU

    def __repr__(self) -> str:
        return f"Tensor(data_type={self.data_type.value}, shape={tuple(self.shape)}, size={self.size})"

    def named(self, name: str) -> core.Tensor:
        """Return the tensor as the server knows it."""
        data = np.ascontiguousarray(self._data).reshape(-1).view(np.uint8).data
        return core.Tensor(name, self.data_type.value, tuple(self.shape), data)


def tensor_of(name: str, value: Any) -> core.Tensor:
    """Make an input of whatever a caller gives: a Tensor, an array, something with DLPack, or nested lists.

    Raises:
        InvalidArgumentError: it cannot be a tensor.
    """
    if isinstance(value, Tensor):
        return value.named(name)
    if isinstance(value, np.ndarray | np.generic):
        return _of_array(np.asarray(value)).named(name)
    if hasattr(value, "__dlpack__"):
        return Tensor.from_dlpack(value).named(name)
    try:
        array = np.array(value)
    except ValueError as error:
        raise InvalidArgumentError(f"input '{name}' is no tensor: {error}") from None
    return _of_array(array).named(name)


def _of_array(array: np.ndarray[Any, Any]) -> Tensor:
    if array.dtype.kind in "OSU":
        return Tensor.from_bytes_array(array)
    datatype = _BY_DTYPE.get(array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype)
    if datatype is None:
        raise InvalidArgumentError(f"no tensor holds arrays of {array.dtype}")
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return Tensor(datatype, array.shape, array)


class _Offer:
    """Hands a bare capsule to numpy, which takes only objects that offer one."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CPU
