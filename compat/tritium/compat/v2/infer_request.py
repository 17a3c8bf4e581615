"""The body of POST .../infer: JSON, JSON followed by binary tensors, or one raw tensor, to plain values.

    {"id", "parameters", "inputs": [{"name", "shape", "datatype", "parameters", "data"}], "outputs": [...]} bytes...

What depends on the model (names, datatypes, shapes, sizes) is checked where the request is queued, for every
protocol alike. Only a raw body is deduced from the model's one input here.
Source: server/src/http_server.cc, 2.73.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from tritium.compat.datatypes import BY_NAME
from tritium.compat.v2 import json_text, members, plain_json, tensor_source
from tritium.compat.v2.call import InferCall, MakeTensor, OutputRequest, Parameter
from tritium.compat.v2.elements import join_bytes
from tritium.compat.v2.refusal import Refusal, member, missing, unparsable
from tritium.compat.v2.regions import SHARED_MEMORY, View, no_memory

T = TypeVar("T")

RESERVED_PARAMETERS = frozenset(
    ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers", "binary_data_output")
)
RESERVED_PREFIX = "triton_"

HEADER_SIZE = "Inference-Header-Content-Length"
_LEADING_NUMBER = re.compile(r"\s*([+-]?\d+)", re.ASCII)
_INT32 = range(-(1 << 31), 1 << 31)
_INT64 = range(-(1 << 63), 1 << 63)


def header_size(header: bytes, body_size: int) -> int:
    """Return how many bytes of the body are JSON, from Inference-Header-Content-Length; 0 means a raw tensor.

    It is read as std::stoi reads a number: what follows the digits is not looked at.

    Raises:
        Refusal: the header names more bytes than there are, or none.
    """
    if not header:
        return body_size
    if header.isdigit() and len(header) < len("2147483648") and int(header) <= body_size:
        return int(header)  # as everybody writes it; the rest is for what is odd or wrong
    given = header.decode("latin-1")
    size = _stoi(given)
    if size is None:
        raise Refusal(f"Unable to parse {HEADER_SIZE}, got: {given}")
    if size not in _INT32:
        raise Refusal(
            f"Unable to parse {HEADER_SIZE}, value is out of range [ {_INT32.start}, {_INT32.stop - 1} ], got: {given}"
        )
    return _within(size, body_size, given)


def marked_size(given: str, body_size: int) -> int:
    """Return how many bytes of the body are JSON, from the number that ends a cloud's content type.

    Raises:
        Refusal: it names more bytes than there are, or none.
    """
    size = _stoi(given)
    if size is None:
        raise Refusal(f"Unable to parse inference header size, got: {given}")
    if size not in _INT32:
        raise Refusal(f"Unable to parse inference header size, value is out of range, got: {given}")
    return _within(size, body_size, given)


def _stoi(text: str) -> int | None:
    number = _LEADING_NUMBER.match(text)
    if number is None:
        return None
    digits = number[1]
    return int(digits) if len(digits) <= len("-2147483648") else _INT32.stop


def _within(size: int, body_size: int, given: str) -> int:
    if not 0 <= size <= body_size:
        raise Refusal(f"inference header size should be in range (0, {body_size}), got: {given}")
    return size


def check_json_size(size: int, most: int) -> None:
    """Refuse JSON of more than `most` bytes (0: any number).

    Raises:
        Refusal: in Triton's words.
    """
    if most and size > most:
        raise Refusal(
            f"request JSON size of {size} bytes exceeds the maximum allowed input size of {most} bytes. "
            "Use --http-max-input-size to increase the limit."
        )


def decode(
    body: bytes | memoryview,
    json_size: int,
    model: str,
    tensor: MakeTensor[T],
    region: View = no_memory,
    most: int = 0,
) -> InferCall[T]:
    """Read a body whose first `json_size` bytes are JSON; binary tensors are views into the body, not copies.

    Tensors in shared memory are views into their region, which `region` finds. The JSON, and each tensor in it, comes
    to `most` bytes at the most (0: any number).

    Raises:
        Refusal: in Triton's words.
    """
    check_json_size(json_size, most)
    view = memoryview(body)
    plain = plain_json.decode(view, json_size, tensor, most, region)
    return plain if plain is not None else decode_carefully(view, json_size, model, tensor, region, most)


def decode_carefully(
    view: memoryview,
    json_size: int,
    model: str,
    tensor: MakeTensor[T],
    region: View = no_memory,
    most: int = 0,
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
        call.id = members.text(document, "id")
    if "parameters" in document:
        _read_parameters(document["parameters"], call)
    at = json_size
    for entry in members.array(document, "inputs"):
        if type(entry) is not dict:
            raise missing("name")
        tensor_source.check(entry)
        name = members.text(entry, "name")
        datatype = members.text(entry, "datatype")
        shape = tensor_source.shape_of(entry)
        if "data" in entry:
            data: bytes | memoryview = tensor_source.in_json(name, datatype, shape, entry["data"], most)
        elif SHARED_MEMORY in entry["parameters"]:
            data = tensor_source.in_memory(entry["parameters"], region).toreadonly()
        else:
            end = at + tensor_source.binary_size(entry["parameters"])
            if end > len(view):
                raise Refusal(
                    f"unexpected size for input '{name}', expecting {end - len(view)} additional bytes "
                    f"for model '{model}'"
                )
            data = view[at:end]
            at = end
        call.inputs.append(tensor(name, datatype, shape, data))
    if at != len(view):
        raise Refusal(f"unexpected additional input data for model '{model}'")
    if "outputs" in document:
        call.outputs = [_output(entry, region) for entry in members.array(document, "outputs")]
    return call


def check_raw_size(size: int, most: int) -> None:
    """Refuse a raw tensor of more than `most` bytes (0: any number).

    Raises:
        Refusal: in Triton's words.
    """
    if most and size > most:
        raise Refusal(
            f"Raw input has a byte_size ({size} bytes) that exceeds the maximum allowed value of {most} bytes. "
            "Use --http-max-input-size to increase the limit."
        )


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


def _read_parameters(parameters: Any, call: InferCall[Any]) -> None:
    if type(parameters) is not dict:
        raise unparsable("failed to get request params.: attempt to get members for non-object")
    for key, value in parameters.items():
        match key:
            case "sequence_id":
                call.sequence_id = _sequence_id(value)
            case "sequence_start":
                call.sequence_start = members.boolean(key, value)
            case "sequence_end":
                call.sequence_end = members.boolean(key, value)
            case "priority":
                call.priority = members.unsigned(key, value)
            case "timeout":
                call.timeout_us = members.unsigned(key, value)
            case "binary_data_output":
                call.binary_output = members.boolean(key, value)
            case _ if key.startswith(RESERVED_PREFIX):
                raise Refusal(
                    "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified."
                )
            case _:
                call.parameters[key] = custom_parameter(key, value)


def _sequence_id(value: Any) -> int | str:
    if type(value) is int and 0 <= value <= members.MOST_UNSIGNED:
        return value
    if type(value) is not str:
        raise member("sequence_id", members.STRING)
    return value


def custom_parameter(key: str, value: Any) -> Parameter:
    """Check a parameter that means nothing to the server and goes to the model as it is.

    An integer beyond 64 bits goes as a double, as in Triton.

    Raises:
        Refusal: it is neither a string nor a number nor a boolean.
    """
    if type(value) is int and value not in _INT64:
        return float(value)
    if type(value) not in (str, int, float, bool):
        raise Refusal(f"parameter '{key}' has invalid type. It should be either 'int', 'bool', or 'string'.")
    return value  # type: ignore[no-any-return]  # the line above has narrowed it in all but name


def _output(entry: Any, region: View) -> OutputRequest:
    """Read an output that is asked for; without saying how, it goes as JSON whatever `binary_data_output` is."""
    parameters = entry.get("parameters") if type(entry) is dict else None
    if not parameters:
        return OutputRequest(members.text(entry, "name"))
    if type(parameters) is not dict:
        raise unparsable("failed to get request params.: attempt to get members for non-object")
    binary = parameters.get("binary_data", False)
    shared = SHARED_MEMORY in parameters
    if shared:
        if "classification" in parameters:
            raise Refusal(f"Output can't set both '{SHARED_MEMORY}' and 'classification'")
        if type(binary) is not bool:
            raise unparsable(f"Unable to set 'binary_data': {members.BOOLEAN}")
        if binary:
            raise Refusal(f"Output can't set both '{SHARED_MEMORY}' and 'binary_data'")
    output = OutputRequest(members.text(entry, "name"))
    if "classification" in parameters:
        number = parameters["classification"]
        if type(number) is not int or not 0 <= number <= members.MOST_UNSIGNED:
            raise unparsable(f"Unable to set 'classification': {members.UNSIGNED}")
        output.classification = number
    if shared:
        output.memory = tensor_source.in_memory(parameters, region)
    else:
        output.binary = members.boolean("binary_data", binary)
    return output
