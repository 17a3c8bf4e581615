"""Between numpy's types, config.pbtxt's names, Triton's numbers, and the v2 binary form of BYTES tensors."""

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from tritium.compat.datatypes import BY_CONFIG_VALUE, BY_NAME, DATATYPES, Datatype
from tritium.compat.pb_utils.errors import TritonModelException

_LENGTH = struct.Struct("<I")

_SCALARS: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}

TRITON_STRING_TO_NUMPY: dict[str, Any] = {
    kind.config_name: bool if kind.name == "BOOL" else _SCALARS[kind.name]
    for kind in DATATYPES
    if kind.name in _SCALARS
}

_BY_KIND: dict[tuple[str, int], Datatype] = {
    (kind.numpy.kind, kind.numpy.itemsize): kind for kind in DATATYPES if kind.name not in {"BF16", "BYTES"}
}
_BY_NUMBER: dict[int, Datatype] = {
    plain.num: _BY_KIND[plain.kind, plain.itemsize] for plain in map(np.dtype, "?bBhHiIlLqQefd")
}
"""numpy has two numbers for some integers, and the same ones whatever their byte order."""
_BYTES = BY_NAME["BYTES"]


def datatype_of(dtype: np.dtype[Any]) -> Datatype:
    """Return the datatype that holds numpy's `dtype`.

    Raises:
        TritonModelException: there is none.
    """
    kind = _BY_NUMBER.get(dtype.num)
    if kind is not None:
        return kind
    if dtype.kind in "OSU":
        return _BYTES
    if dtype.name == "bfloat16":
        return BY_NAME["BF16"]
    raise TritonModelException(f"NumPy dtype is not supported: {dtype}")


def triton_string_to_numpy(triton_type_string: str) -> Any:
    """Return the numpy type of a config.pbtxt datatype such as TYPE_FP32."""
    return TRITON_STRING_TO_NUMPY[triton_type_string]


def triton_to_numpy_type(data_type: int) -> Any:
    """Return the numpy type of a DataType number, None where numpy has none."""
    kind = BY_CONFIG_VALUE.get(data_type)
    return _SCALARS.get(kind.name) if kind else None


def numpy_to_triton_type(data_type: Any) -> int | None:
    """Return the DataType number of a numpy type, None where Triton has none."""
    try:
        return datatype_of(np.dtype(data_type)).config_value
    except (TypeError, TritonModelException):
        return None


def join(elements: Iterable[Any]) -> bytes:
    """Lay elements out one after the other, each behind its length; what is not bytes is written as text."""
    parts: list[bytes] = []
    for element in elements:
        raw = element if isinstance(element, bytes) else str(element).encode()
        parts += (_LENGTH.pack(len(raw)), raw)
    return b"".join(parts)


def split(encoded: Any) -> list[bytes]:
    """Read elements back.

    Raises:
        TritonModelException: lengths do not add up.
    """
    view = memoryview(encoded).cast("B")
    elements: list[bytes] = []
    at, end = 0, view.nbytes
    while at < end:
        if at + 4 > end:
            raise TritonModelException("Invalid bytes tensor data: incomplete length field")
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4
        if at + length > end:
            raise TritonModelException("Invalid bytes tensor data: string extends beyond buffer")
        elements.append(bytes(view[at : at + length]))
        at += length
    return elements


def serialize_byte_tensor(input_tensor: np.ndarray[Any, Any]) -> bytes | None:
    """Encode an array of strings or bytes, row by row; None for an array of anything else."""
    if input_tensor.dtype.kind not in "OSU":
        return None
    return join(input_tensor.ravel().tolist())


def deserialize_bytes_tensor(encoded_tensor: Any) -> np.ndarray[Any, Any]:
    """Decode into a one-dimensional object array of `bytes`."""
    elements = split(encoded_tensor)
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array
