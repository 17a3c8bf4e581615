"""The generate extension: one flat JSON object in, one flat JSON object out.

A top-level key that names an input of the model is that tensor; so is one within "parameters"; every other key is
a request parameter. A response holds each output, each response parameter, id, model_name and model_version as
keys of one object, in alphabetical order, a tensor of one element without its brackets.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import orjson

from tritium.compat.v2 import json_text
from tritium.compat.v2.call import InferCall, MakeTensor, Parameter
from tritium.compat.v2.elements import from_json, to_json
from tritium.compat.v2.infer_request import custom_parameter
from tritium.compat.v2.infer_response import TensorLike
from tritium.compat.v2.refusal import Refusal, member, not_a, unparsable

T = TypeVar("T")


def decode(
    body: bytes | memoryview,
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    tensor: MakeTensor[T],
) -> InferCall[T]:
    """Read the body of a generate request; `inputs` are the model's datatypes and full shapes by name.

    Raises:
        Refusal: in Triton's words.
    """
    document = json_text.parse(body)
    if type(document) is not dict:
        raise unparsable("failed to parse the generate request: attempt to get members for non-object")
    call: InferCall[T] = InferCall()
    _read(document, inputs, tensor, call)
    nested = document.get("parameters")
    if nested is not None:
        if "parameters" in inputs:
            raise Refusal("Keyword 'parameters' for nested schema also given as input tensor name")
        if type(nested) is not dict:
            raise Refusal("Expected JSON object for keyword: 'parameters'")
        _read(nested, inputs, tensor, call)
    return call


def _read(
    document: dict[str, Any],
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    tensor: MakeTensor[T],
    call: InferCall[T],
) -> None:
    for key, value in document.items():
        if key in inputs:
            datatype, shape = inputs[key]
            data, count = from_json(key, datatype, value if type(value) is list else [value])
            call.inputs.append(tensor(key, datatype, _spread(key, shape, count), data))
        elif key != "parameters":
            if key == "id":
                if type(value) is not str:
                    raise member("id", not_a("string"))
                call.id = value
            call.parameters[key] = custom_parameter(key, value)


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
    model: str, version: str, request_id: str, parameters: Mapping[str, Parameter], outputs: Iterable[TensorLike]
) -> bytes:
    """Write one response.

    Raises:
        Refusal: an output has no JSON form.
    """
    members = {name: orjson.dumps(value) for name, value in parameters.items()}
    for output in outputs:
        data = to_json(output.datatype, output.data)
        members[output.name] = data[1:-1] if math.prod(output.shape) == 1 else data
    if request_id:
        members["id"] = orjson.dumps(request_id)
    members["model_name"] = orjson.dumps(model)
    members["model_version"] = orjson.dumps(version)
    return b"{" + b",".join(b"%s:%s" % (orjson.dumps(name), members[name]) for name in sorted(members)) + b"}"
