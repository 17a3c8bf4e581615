"""Arrays of a batch, as torch takes them and gives them: tensors, and lists of strings."""

from typing import Any, Final

import numpy as np
import torch

from tritium.backends.hosted.batch import Value
from tritium.backends.hosted.configured import Port, Refused
from tritium.compat.datatypes import BY_NAME
from tritium.compat.pb_utils import TritonError

DATATYPES: Final[dict[torch.dtype, str]] = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.float32: "FP32",
    torch.float64: "FP64",
    torch.bfloat16: "BF16",
}
CONFIG_TYPES: Final = {BY_NAME[name].config_name: dtype for dtype, name in DATATYPES.items()}


def to_torch(name: str, value: Value, device: torch.device) -> torch.Tensor | list[str]:
    """Return the tensor of an array, without a copy on the CPU; of BYTES the list of its elements as text.

    Raises:
        Refused: torch has no such datatype, or an element is not UTF-8.
    """
    if value.datatype == "BYTES":
        try:
            return [element.decode() for element in value.array.ravel()]
        except UnicodeDecodeError:
            raise Refused(
                f"an element of input '{name}' is not UTF-8, which is what a str holds", TritonError.INVALID_ARG
            ) from None
    if value.datatype in ("UINT16", "UINT32", "UINT64"):
        raise Refused(f"input '{name}' type 'TYPE_{value.datatype}' is not supported by PyTorch.")
    tensor = torch.from_numpy(value.array)
    if value.datatype == "BF16":
        tensor = tensor.view(torch.bfloat16)
    return tensor.to(device)


def from_torch(port: Port, result: Any) -> Value:
    """Return a result of the model as the configured output.

    Raises:
        Refused: it is a scalar, of another datatype, or no tensor and no list of strings.
    """
    value = value_of(port.name, result)
    if value.datatype != port.datatype:
        raise Refused(
            f"configuration expects datatype {port.config_type} for output '{port.name}', "
            f"model provides {BY_NAME[value.datatype].config_name}",
            TritonError.INVALID_ARG,
        )
    if value.array.ndim == 0:
        raise Refused(f"output '{port.name}' is a scalar which is not supported.", TritonError.INVALID_ARG)
    return value


def value_of(name: str, result: Any) -> Value:
    """Return a tensor or a list of strings as it is.

    Raises:
        Refused: it is neither, or of a datatype that has no name here.
    """
    if isinstance(result, list) and all(isinstance(text, str) for text in result):
        texts = np.empty(len(result), np.object_)
        texts[:] = [text.encode() for text in result]
        return Value("BYTES", texts)
    if not isinstance(result, torch.Tensor):
        raise Refused(f"output '{name}' must be of type Tensor or List[str].", TritonError.INVALID_ARG)
    datatype = DATATYPES.get(result.dtype)
    if datatype is None:
        raise Refused(f"output '{name}' is {result.dtype}, which no datatype stands for", TritonError.INVALID_ARG)
    tensor = result.detach().cpu().contiguous()
    if datatype == "BF16":
        return Value(datatype, tensor.view(torch.int16).numpy().view(np.uint16))
    return Value(datatype, tensor.numpy())
