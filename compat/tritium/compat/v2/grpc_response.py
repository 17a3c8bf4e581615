"""A ModelInferResponse and a ModelStreamInferResponse as bytes.

Written by hand: the protobuf library needs a millisecond and a half for a response of 1 MiB, and a join needs
twenty microseconds. Names, datatypes and shapes repeat from request to request, so their fields are kept encoded.
Field numbers: inference.ModelInferResponse in grpc_service.proto.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from struct import pack

from tritium.compat.v2.call import Form, Parameter
from tritium.compat.v2.elements import Buffer
from tritium.compat.v2.infer_response import TensorLike

# A field's tag is its number shifted by three, and its wire type: 0 varint, 1 eight bytes, 2 length-delimited.
_NAME, _VERSION, _ID, _PARAMETERS, _OUTPUTS, _RAW = (number << 3 | 2 for number in range(1, 7))
_MEMORY = Form.MEMORY  # bound once: an enum looks its members up by name

WHOLE_BYTES = 32 << 10
"""Up to this size a response is one piece: a copy is cheaper than buffers to keep track of."""


def encode(
    model: str,
    version: str,
    request_id: str,
    parameters: Mapping[str, Parameter],
    outputs: Iterable[tuple[TensorLike, Form]],
    *,
    final: bool | None = None,
) -> list[Buffer]:
    """Write a ModelInferResponse with every output in raw_output_contents; the parts of a large one are not joined.

    An output whose data is in shared memory already has empty contents, as in Triton.
    Within a stream it says whether it is the `final` one of its request.
    """
    parts: list[Buffer] = [_model(model, version)]
    if request_id:
        parts.append(field(_ID, request_id.encode()))
    for name, value in parameters.items():
        parts.append(_parameter(name, value))
    if final is not None:
        parts.append(_FINAL if final else _NOT_FINAL)
    raws: list[Buffer] = []
    total = 0
    for tensor, form in outputs:
        data = tensor.data if form is not _MEMORY else b""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        parts.append(_output(tensor.name, tensor.datatype, tensor.shape))
        raws.append(b"\x32" + varint(size))
        raws.append(data)
        total += size
    if total <= WHOLE_BYTES:
        return [b"".join(parts + raws)]
    return [b"".join(parts), *raws]


def stream_item(response: Sequence[Buffer], error: str = "") -> bytes:
    """Write a ModelStreamInferResponse around an encoded ModelInferResponse."""
    size = sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in response)
    wrapped = b"".join((b"\x12", varint(size), *response))
    return field(0x0A, error.encode()) + wrapped if error else wrapped


def field(tag: int, content: bytes) -> bytes:
    """Write a length-delimited field whose tag is one byte."""
    return bytes((tag,)) + varint(len(content)) + content


def varint(number: int) -> bytes:
    """Write an unsigned number, seven bits a byte, the lowest first."""
    if number < 0x80:
        return _BYTE[number]
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _signed(number: int) -> bytes:
    return varint(number & (1 << 64) - 1)


_BYTE = tuple(bytes((number,)) for number in range(0x80))


def _parameter(name: str, value: Parameter) -> bytes:
    if isinstance(value, bool):
        choice = b"\x08" + varint(value)
    elif isinstance(value, int):
        choice = b"\x10" + _signed(value)
    elif isinstance(value, str):
        choice = field(0x1A, value.encode())
    else:
        choice = b"\x21" + pack("<d", value)
    return field(_PARAMETERS, field(0x0A, name.encode()) + field(0x12, choice))


_FINAL = _parameter("triton_final_response", True)
_NOT_FINAL = _parameter("triton_final_response", False)


@lru_cache(maxsize=1024)
def _model(model: str, version: str) -> bytes:
    named = field(_NAME, model.encode())
    return named + field(_VERSION, version.encode()) if version else named


@lru_cache(maxsize=4096)
def _output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(map(_signed, shape))
    content = field(0x0A, name.encode()) + field(0x12, datatype.encode())
    return field(_OUTPUTS, content + field(0x1A, dims) if shape else content)
