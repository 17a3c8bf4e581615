"""A response as JSON, followed by the binary tensors that the client asked for.

{"id", "model_name", "model_version", "parameters", "outputs": [{"name", "datatype", "shape", "data"}]} bytes...
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol

import orjson

from tritium.compat.v2 import json_text
from tritium.compat.v2.call import Form, Parameter
from tritium.compat.v2.elements import Buffer, to_json

_BYTES, _MEMORY = Form.BYTES, Form.MEMORY  # bound once: an enum looks its members up by name


class TensorLike(Protocol):
    """What an encoder reads of a tensor."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Buffer


def encode(
    model: str,
    version: str,
    request_id: str,
    parameters: Mapping[str, Parameter],
    outputs: Iterable[tuple[TensorLike, Form]],
) -> tuple[bytes, list[Buffer]]:
    """Write a response whose outputs go in their forms; return the JSON and the tensors after it.

    An output whose data is in shared memory already has its name, datatype and shape written, as Triton does.

    Raises:
        Refusal: an output has no JSON form.
    """
    parts, blobs = encode_parts(model, version, request_id, parameters, outputs, {})
    return b"".join(parts), blobs


def encode_parts(
    model: str,
    version: str,
    request_id: str,
    parameters: Mapping[str, Parameter],
    outputs: Iterable[tuple[TensorLike, Form]],
    written: Mapping[str, Sequence[bytes]],
) -> tuple[list[bytes], list[Buffer]]:
    """Write a response as `encode` does, the JSON in parts; `written` are elements that have been written before.

    Raises:
        Refusal: an output has no JSON form.
    """
    parts = [_head(model, version, request_id)]
    if parameters:
        parts += [b',"parameters":', json_text.write(parameters)]
    parts.append(b',"outputs":[')
    blobs: list[Buffer] = []
    comma = b""
    for tensor, form in outputs:
        data = tensor.data
        parts += [comma, _output_head(tensor.name, tensor.datatype, tensor.shape)]
        comma = b","
        if form is _BYTES:
            size = data.nbytes if isinstance(data, memoryview) else len(data)
            parts.append(b',"parameters":{"binary_data_size":%d}}' % size)
            blobs.append(data)
        elif form is _MEMORY:
            parts.append(b"}")
        elif tensor.name in written:
            parts += [b',"data":', *written[tensor.name], b"}"]
        else:
            parts += [b',"data":', to_json(tensor.datatype, data), b"}"]
    parts.append(b"]}")
    return parts, blobs


def _head(model: str, version: str, request_id: str) -> bytes:
    head = _model_head(model, version)
    return b'{"id":' + json_text.write(request_id) + b"," + head[1:] if request_id else head


@lru_cache(maxsize=1024)
def _model_head(model: str, version: str) -> bytes:
    return orjson.dumps({"model_name": model, "model_version": version})[:-1]


@lru_cache(maxsize=4096)
def _output_head(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    return orjson.dumps({"name": name, "datatype": datatype, "shape": shape})[:-1]
