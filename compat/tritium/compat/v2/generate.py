"""The generate extension: one flat JSON object in, one flat JSON object out.

A top-level key that names an input of the model is that tensor; so is one within "parameters"; every other key is
a request parameter. A response holds each output, each response parameter, id, model_name and model_version as
keys of one object, in alphabetical order, a tensor of one element without its brackets.
Source: server/src/http_server.cc, ConvertGenerateRequest and ExactMappingInput, 2.73.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2 import json_text, members
from tritium.compat.v2.call import InferCall, MakeTensor, Parameter
from tritium.compat.v2.elements import from_json, to_json
from tritium.compat.v2.infer_request import check_json_size, custom_parameter
from tritium.compat.v2.infer_response import TensorLike
from tritium.compat.v2.refusal import Refusal, member, not_a, unparsable

T = TypeVar("T")

_NESTED = "parameters"


def decode(
    body: bytes | memoryview,
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    tensor: MakeTensor[T],
    most: int = 0,
) -> InferCall[T]:
    """Read the body of a generate request; `inputs` are the model's datatypes and full shapes by name.

    The JSON, and all tensors together, come to `most` bytes at the most (0: any number).

    Raises:
        Refusal: in Triton's words.
    """
    check_json_size(len(body), most)
    document = json_text.parse(body)
    if type(document) is not dict:
        raise unparsable("failed to parse the generate request: attempt to get members for non-object")
    call: InferCall[T] = InferCall()
    if "id" in document:
        call.id = members.text(document, "id")
    _refuse_repeated(body, inputs)
    reader = _Reader(inputs, tensor, call, most)
    for key, value in document.items():
        if key == _NESTED:
            reader.read_nested(value)
        else:
            reader.read(key, value)
    return call


def _refuse_repeated(body: bytes | memoryview, inputs: Mapping[str, object]) -> None:
    """Refuse an object that gives an input twice, of which a dict holds the last only."""
    text = bytes(body)
    if any(text.count(b'"%b"' % name.encode()) > 1 for name in inputs):
        seen = set()
        for key in json_text.keys(text):
            if key in seen and key in inputs:
                raise Refusal(f"[request id: <id_unknown>] input '{key}' already exists in request")
            seen.add(key)


@dataclass(slots=True)
class _Reader(Generic[T]):
    """Turns members of the request into tensors and parameters."""

    inputs: Mapping[str, tuple[str, tuple[int, ...]]]
    tensor: MakeTensor[T]
    call: InferCall[T]
    most: int
    read_bytes: int = 0

    def read(self, key: str, value: Any) -> None:
        if key not in self.inputs:
            self.call.parameters[key] = custom_parameter(key, value)
            return
        datatype, shape = self.inputs[key]
        elements = value if type(value) is list else [value]
        count = len(elements)
        size = count * BY_NAME[datatype].size_bytes
        self._take(key, size)
        data, given = from_json(key, datatype, elements)
        if not BY_NAME[datatype].fixed:
            self._take(key, len(data))
        if not data:
            self.call.inputs.append(self.tensor(key, datatype, (), b""))
            return
        spread = _spread(key, shape, count)
        if given != count and BY_NAME[datatype].fixed:  # only the outermost array's elements are counted
            raise member("data", "Shape does not match true shape of 'data' field")
        self.call.inputs.append(self.tensor(key, datatype, spread, data))

    def read_nested(self, value: Any) -> None:
        if _NESTED in self.inputs:
            raise Refusal(f"Keyword '{_NESTED}' for nested schema also given as input tensor name")
        if type(value) is not dict:
            raise unparsable(f"Expected JSON object for keyword: '{_NESTED}': {not_a('object')}")
        try:
            for key, nested in value.items():
                self.read(key, nested)
        except Refusal as refusal:
            raise Refusal(f"Converting keyword: '{_NESTED}': {refusal.message}", refusal.code) from None

    def _take(self, name: str, size: int) -> None:
        """Count a tensor's bytes against the limit."""
        if self.most and self.read_bytes + size > self.most:
            raise Refusal(
                f"request size of {self.read_bytes} bytes with input '{name}' of size {size} bytes exceeds the "
                f"maximum allowed input size of {self.most}. Use --http-max-input-size to increase the limit."
            )
        self.read_bytes += size


def _spread(name: str, shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Distribute elements over the model's shape: the innermost open dimension takes what the fixed ones leave."""
    fixed = math.prod(dim for dim in shape if dim != -1)
    if fixed and count % fixed == 0 and (-1 in shape or count == fixed):
        rest, spread = count // fixed, []
        for dim in reversed(shape):
            spread.append(rest if dim == -1 else dim)
            rest = 1 if dim == -1 else rest
        return tuple(reversed(spread))
    raise Refusal(f"The schema can not convert input '{name}' to tensor with proper shape")


def encode(
    model: str,
    version: str,
    request_id: str,
    parameters: Mapping[str, Parameter],
    outputs: Iterable[TensorLike],
    written: Mapping[str, bytes] | None = None,
) -> bytes:
    """Write one response; `written` are elements that have been written before.

    Raises:
        Refusal: an output has no JSON form.
    """
    fields = {name: json_text.write(value) for name, value in parameters.items()}
    for output in outputs:
        data = written[output.name] if written and output.name in written else to_json(output.datatype, output.data)
        fields[output.name] = data[1:-1] if math.prod(output.shape) == 1 else data
    if request_id:
        fields["id"] = json_text.write(request_id)
    fields["model_name"] = orjson.dumps(model)
    fields["model_version"] = orjson.dumps(version)
    return b"{" + b",".join(b"%s:%s" % (json_text.write(name), fields[name]) for name in sorted(fields)) + b"}"
