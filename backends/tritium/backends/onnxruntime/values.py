"""Tensors in v2 binary form, and what onnxruntime takes and gives.

Most datatypes pass as numpy arrays over the same bytes. Two do not: text, which onnxruntime wants as `str`, and
bfloat16, which numpy lacks and which travels as an OrtValue.
"""

import ctypes
from typing import Any, Final

import numpy as np

from tritium.core.errors import InvalidArgument
from tritium.core.tensor import Tensor, from_array

DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
    "tensor(bfloat16)": "BF16",
}
"""onnxruntime's names of element types, and ours."""

_ONNX_BFLOAT16: Final = 16  # TensorProto.BFLOAT16


def to_array(tensor: Tensor, model: str) -> np.ndarray[Any, Any]:
    """View a tensor as the numpy array that onnxruntime takes (BF16: as bit patterns).

    Raises:
        InvalidArgument: text that is not UTF-8, which onnxruntime cannot hold.
    """
    array = tensor.array()
    if tensor.datatype != "BYTES":
        return array
    flat = array.ravel()
    for index, element in enumerate(flat):
        try:
            flat[index] = element.decode()
        except UnicodeDecodeError:
            raise InvalidArgument(
                f"element {index} of input '{tensor.name}' for model '{model}' is not UTF-8",
                hint="onnxruntime holds strings as UTF-8 text; send other bytes as UINT8",
            ) from None
    return flat.reshape(tensor.shape)


def to_ort_value(runtime: Any, tensor: Tensor, model: str) -> Any:
    """Make an OrtValue, the only form in which bfloat16 goes in."""
    array = to_array(tensor, model)
    if tensor.datatype == "BF16":
        return runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
    return runtime.OrtValue.ortvalue_from_numpy(array)


def from_ort_value(name: str, value: Any, datatype: str) -> Tensor:
    """Make a tensor of an OrtValue; bfloat16 is copied out of it."""
    if datatype != "BF16":
        return from_array(name, value.numpy(), datatype)
    return Tensor(
        name, datatype, tuple(value.shape()), ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    )
