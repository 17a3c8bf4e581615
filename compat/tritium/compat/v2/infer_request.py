"""The body of POST .../infer: JSON, JSON followed by binary tensors, or one raw tensor, to plain values.

    {"id", "parameters", "inputs": [{"name", "shape", "datatype", "parameters", "data"}], "outputs": [...]} bytes...

What depends on the model (names, datatypes, shapes, sizes) is checked where the request is queued, for every
protocol alike. Only a raw body is deduced from the model's one input here.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2 import json_text, plain_json, regions
from tritium.compat.v2.call import InferCall, MakeTensor, OutputRequest, Parameter
from tritium.compat.v2.elements import from_json, join_bytes
from tritium.compat.v2.refusal import Refusal, member, missing, not_a, unparsable
from tritium.compat.v2.regions import View

T = TypeVar("T")

SHARED_MEMORY = "shared_memory_region"

_UNSIGNED = not_a("unsigned-integer")
_BOOLEAN = not_a("boolean")
_STRING = not_a("string")
_ARRAY = not_a("array")
_MOST_BYTES = (1 << 63) - 1
_LEADING_NUMBER = re.compile(rb"\s*[+-]?\d{1,18}")
_SOURCES = "'data', 'binary_data_size' in 'parameters', 'shared_memory_region' in 'parameters'"


def header_size(header: bytes, body_size: int) -> int:
    """Return how many bytes of the body are JSON, from Inference-Header-Content-Length; 0 means a raw tensor.

    Raises:
        Refusal: the header names more bytes than there are.
    """
    if not header:
        return body_size
    number = _LEADING_NUMBER.match(header)  # as C's atoi reads it, so does Triton: "abc" is 0
    size = int(number[0]) if number else 0
    if not 0 <= size <= body_size:
        raise Refusal(f"inference header size should be in range (0, {body_size}), got: {size}")
    return size


def no_memory(name: str, _offset: int, _byte_size: int) -> memoryview:
    """Find no region: the `view` of a server without shared memory.

    Raises:
        Refusal: always.
    """
    raise regions.unknown(name)


def decode(
    body: bytes | memoryview, json_size: int, model: str, tensor: MakeTensor[T], region: View = no_memory
) -> InferCall[T]:
    """Read a body whose first `json_size` bytes are JSON; binary tensors are views into the body, not copies.

    Tensors in shared memory are views into their region, which `region` finds.

    Raises:
        Refusal: in Triton's words.
    """
    view = memoryview(body)
    plain = plain_json.decode(view, json_size, tensor)
    return plain if plain is not None else decode_carefully(view, json_size, model, tensor, region)


def decode_carefully(
    view: memoryview, json_size: int, model: str, tensor: MakeTensor[T], region: View = no_memory
) -> InferCall[T]:
    """Read a body in any of its forms, or say what is wrong with it; as `decode`.

    Raises:
        Refusal: in Triton's words.
    """
    document = json_text.parse(view[:json_size])
    if type(document) is not dict:
        raise missing("inputs")
    call: InferCall[T] = InferCall()
    if "id" in document:
        call.id = _text(document, "id")
    if "parameters" in document:
        _read_parameters(document["parameters"], call)
    at = json_size
    for entry in _array(document, "inputs"):
        name = _text(entry, "name")
        datatype = _text(entry, "datatype")
        shape = _shape(entry)
        kind = BY_NAME.get(datatype)
        if kind is None:
            raise Refusal(f"invalid datatype for input {name}")
        parameters = entry.get("parameters")
        size = parameters.get("binary_data_size") if type(parameters) is dict else None
        count = math.prod(shape)
        if count * max(kind.size_bytes, 1) > _MOST_BYTES:
            raise Refusal(f"input '{name}' has a shape of more bytes than can be addressed: {list(shape)}")
        if "data" in entry:
            if parameters:
                _check_sources(parameters, json_data=True)
            call.inputs.append(
                tensor(name, datatype, shape, _json_data(name, datatype, entry["data"], count, len(view)))
            )
            continue
        _check_sources(parameters, json_data=False)
        if SHARED_MEMORY in parameters:
            call.inputs.append(tensor(name, datatype, shape, _memory(parameters, region).toreadonly()))
            continue
        if type(size) is not int or size < 0:
            raise member("binary_data_size", _UNSIGNED)
        if at + size > len(view):
            lacking = at + size - len(view)
            raise Refusal(
                f"unexpected size for input '{name}', expecting {lacking} additional bytes for model '{model}'"
            )
        call.inputs.append(tensor(name, datatype, shape, view[at : at + size]))
        at += size
    if at != len(view):
        raise Refusal(f"unexpected additional input data for model '{model}'")
    if "outputs" in document:
        call.outputs = [_output(entry, region, binary=call.binary_output) for entry in _array(document, "outputs")]
    return call


def decode_raw(
    body: bytes | memoryview, model: str, inputs: Sequence[tuple[str, str, tuple[int, ...]]], tensor: MakeTensor[T]
) -> InferCall[T]:
    """Take the whole body as the one input of a model; `inputs` are its names, datatypes and full shapes.

    A shape may leave one dimension open (-1) for the body's size to decide; the answer comes back as bytes, too.

    Raises:
        Refusal: the model has several inputs, or its shape cannot be deduced.
    """
    if len(inputs) != 1:
        # The odd "found 1" is Triton's: it counts the body itself.
        raise Refusal(
            f"[request id: <id_unknown>] Raw request must only have 1 input (found 1) to be deduced "
            f"but got {len(inputs)} inputs in '{model}' model configuration"
        )
    ((name, datatype, shape),) = inputs
    size = BY_NAME[datatype].size_bytes
    if not size:
        if math.prod(shape) != 1:
            raise Refusal(
                f"[request id: <id_unknown>] For BYTE datatype raw input '{name}', the model must have input shape [1]"
            )
        return InferCall(inputs=[tensor(name, datatype, shape, join_bytes([bytes(body)]))], binary_output=True)
    open_dims = shape.count(-1)
    if open_dims > 1:
        raise Refusal(
            f"[request id: <id_unknown>] The shape of the raw input '{name}' can not be deduced "
            f"because there are more than one variable-sized dimension"
        )
    if open_dims:
        fixed = -math.prod(shape) * size
        rest = len(body) // fixed if fixed else 0
        shape = tuple(rest if dim == -1 else dim for dim in shape)
    return InferCall(inputs=[tensor(name, datatype, shape, memoryview(body))], binary_output=True)


def _json_data(name: str, datatype: str, data: Any, count: int, body_size: int) -> bytes:
    if count > body_size:  # each element takes a byte of the body at the least
        raise Refusal(f"input '{name}' has a shape of {count} elements, more than the request can hold")
    raw, given = from_json(name, datatype, data)
    # How many strings there are is checked with the model's other sizes, as in Triton.
    if given != count and datatype != "BYTES":
        raise member("data", "Shape does not match true shape of 'data' field")
    return raw


def _check_sources(parameters: Any, *, json_data: bool) -> None:
    """Refuse an input that brings its data in no way, or in more than one."""
    given = ["'data'"] if json_data else []
    if type(parameters) is dict:
        given += [f"'{key}'" for key in ("binary_data_size", SHARED_MEMORY) if key in parameters]
    if len(given) != 1:
        found = f"set {' '.join(given)}" if given else "no field is set"
        raise Refusal(f"Input must set only one of the following fields: {_SOURCES}. But {found}")


no_region = regions.unknown


def _memory(parameters: dict[str, Any], region: View) -> memoryview:
    """Find the memory that a tensor's parameters name."""
    name = parameters[SHARED_MEMORY]
    if type(name) is not str:
        raise member(SHARED_MEMORY, _STRING)
    offset, size = (
        _unsigned(key, parameters.get(key, 0)) for key in ("shared_memory_offset", "shared_memory_byte_size")
    )
    return region(name, offset, size)


def _read_parameters(parameters: Any, call: InferCall[Any]) -> None:
    if type(parameters) is not dict:
        raise unparsable("failed to get request params.: attempt to get members for non-object")
    for key, value in parameters.items():
        match key:
            case "sequence_id":
                call.sequence_id = value if type(value) is str else _unsigned(key, value)
            case "sequence_start":
                call.sequence_start = _boolean(key, value)
            case "sequence_end":
                call.sequence_end = _boolean(key, value)
            case "priority":
                call.priority = _unsigned(key, value)
            case "timeout":
                call.timeout_us = _unsigned(key, value)
            case "binary_data_output":
                call.binary_output = _boolean(key, value)
            case _:
                call.parameters[key] = custom_parameter(key, value)


def custom_parameter(key: str, value: Any) -> Parameter:
    """Check a parameter that means nothing to the server and goes to the model as it is.

    Raises:
        Refusal: it is neither a string nor a number nor a boolean.
    """
    if type(value) not in (str, int, float, bool):
        raise Refusal(f"parameter '{key}' has invalid type. It should be either 'int', 'bool', or 'string'.")
    return value  # type: ignore[no-any-return]  # the line above has narrowed it in all but name


def _output(entry: Any, region: View, *, binary: bool) -> OutputRequest:
    output = OutputRequest(_text(entry, "name"), binary)
    parameters = entry.get("parameters")
    if not parameters:
        return output
    if type(parameters) is not dict:
        raise unparsable("failed to get request params.: attempt to get members for non-object")
    if SHARED_MEMORY in parameters:
        for other in ("binary_data", "classification"):
            if parameters.get(other):
                raise Refusal(f"Output can't set both '{SHARED_MEMORY}' and '{other}'")
        output.memory = _memory(parameters, region)
        return output
    if "binary_data" in parameters:
        output.binary = _boolean("binary_data", parameters["binary_data"])
    if "classification" in parameters:
        number = parameters["classification"]
        if type(number) is not int or number < 0:
            raise unparsable(f"Unable to set 'classification': {_UNSIGNED}")
        output.classification = number
    return output


def _array(document: dict[str, Any], key: str) -> list[Any]:
    if key not in document:
        raise missing(key)
    value = document[key]
    if type(value) is not list:
        raise member(key, _ARRAY)
    return value


def _text(entry: Any, key: str) -> str:
    if type(entry) is not dict or key not in entry:
        raise missing(key)
    value = entry[key]
    if type(value) is not str:
        raise member(key, _STRING)
    return value


def _shape(entry: dict[str, Any]) -> tuple[int, ...]:
    shape = _array(entry, "shape")
    for dim in shape:
        if type(dim) is not int or dim < 0:
            raise member("shape", _UNSIGNED)
    return tuple(shape)


def _unsigned(key: str, value: Any) -> int:
    if type(value) is not int or value < 0:
        raise member(key, _UNSIGNED)
    return value


def _boolean(key: str, value: Any) -> bool:
    if type(value) is not bool:
        raise member(key, _BOOLEAN)
    return value
