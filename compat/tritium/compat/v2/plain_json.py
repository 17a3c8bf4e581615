"""The infer body that nearly all clients send, in a third of the time: msgspec checks the types while it parses.

Plain is a body of numbers in flat arrays or in binary tensors, without parameters that only some models know. Of
whatever is not plain, or not right, nothing is said here: it is read once more by `infer_request`, which knows all
forms and Triton's words for what is wrong with them.
"""

import math
from array import array
from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2.call import InferCall, OutputRequest
from tritium.compat.v2.elements import CODES, Buffer

T = TypeVar("T")

_Size = Annotated[int, msgspec.Meta(ge=0)]
_UNSET = msgspec.UNSET
_Unset = msgspec.UnsetType


class _Source(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    binary_data_size: _Size


class _Input(msgspec.Struct, gc=False):
    name: str
    datatype: str
    shape: tuple[_Size, ...]
    data: list[int | float] | _Unset = _UNSET
    parameters: _Source | _Unset = _UNSET


class _Form(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    binary_data: bool = False


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: _Form | _Unset = _UNSET


class _Wishes(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    binary_data_output: bool = False


class _Document(msgspec.Struct, gc=False):
    inputs: list[_Input]
    id: str = ""
    outputs: list[_Output] = []
    parameters: _Wishes | _Unset = _UNSET


_parse = msgspec.json.Decoder(_Document).decode


def decode(
    body: memoryview, json_size: int, tensor: Callable[[str, str, tuple[int, ...], Buffer], T], most: int = 0
) -> InferCall[T] | None:
    """Read a body whose first `json_size` bytes are JSON; None where it is not plain.

    A tensor in the JSON of more than `most` bytes (0: any number) is not.
    """
    end = len(body)
    try:
        document = _parse(body if json_size == end else body[:json_size])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    inputs: list[T] = []
    at = json_size
    for entry in document.inputs:
        datatype, shape, numbers, source = entry.datatype, entry.shape, entry.data, entry.parameters
        if source is _UNSET:
            code = CODES.get(datatype)
            if code is None or numbers is _UNSET or len(numbers) != math.prod(shape):
                return None
            try:
                data: Buffer = array(code, numbers).tobytes()
            except (OverflowError, TypeError, ValueError):
                return None
            if most and len(data) > most:
                return None
        else:
            start, at = at, at + source.binary_data_size
            if numbers is not _UNSET or at > end or datatype not in BY_NAME or math.prod(shape) > end:
                return None
            data = body[start:at]
        inputs.append(tensor(entry.name, datatype, shape, data))
    if at != end:
        return None
    binary = document.parameters is not _UNSET and document.parameters.binary_data_output
    outputs = [
        OutputRequest(entry.name, (form := entry.parameters) is not _UNSET and form.binary_data)
        for entry in document.outputs
    ]
    return InferCall(document.id, inputs, outputs, binary_output=binary)
