"""A ModelInferRequest to plain values.

Tensors come as `raw_input_contents`, in the order of the inputs, or each as the typed `contents` of its input, or lie
in memory that the client shares. Source: server/src/grpc/infer_handler.cc and grpc_utils.h, 2.73.
"""

from array import array
from collections.abc import Sequence
from typing import Any, TypeVar

from tritium.compat.v2.call import InferCall, MakeTensor, OutputRequest, Parameter
from tritium.compat.v2.elements import CODES, Buffer, join_bytes
from tritium.compat.v2.infer_request import RESERVED_PREFIX
from tritium.compat.v2.refusal import Refusal
from tritium.compat.v2.regions import SHARED_MEMORY, View, no_memory

T = TypeVar("T")

EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
_UINT64 = (1 << 64) - 1

# Field of InferTensorContents -> the datatypes it carries, and what Triton calls a tensor that comes in it.
_CONTENTS = {
    "bool_contents": (("BOOL",), "BOOL"),
    "int_contents": (("INT8", "INT16", "INT32"), "INT32"),
    "int64_contents": (("INT64",), "INT64"),
    "uint_contents": (("UINT8", "UINT16", "UINT32"), "UINT32"),
    "uint64_contents": (("UINT64",), "UINT64"),
    "fp32_contents": (("FP32",), "FP32"),
    "fp64_contents": (("FP64",), "FP64"),
    "bytes_contents": (("BYTES",), "BYTES"),
}


def decode(request: Any, tensor: MakeTensor[T], raws: Sequence[Buffer] = (), region: View = no_memory) -> InferCall[T]:
    """Read a message; `raws` are its raw_input_contents where they were cut out of it.

    Tensors in shared memory are views into their region, which `region` finds.

    Raises:
        Refusal: in Triton's words.
    """
    call: InferCall[T] = InferCall(request.id)
    if request.parameters:
        _read_parameters(request.parameters, call)
    raws = raws or list(request.raw_input_contents)
    at = 0
    for entry in request.inputs:
        name, datatype = entry.name, entry.datatype
        if entry.parameters and (memory := _memory(name, entry.parameters, region)) is not None:
            if entry.HasField("contents"):
                raise Refusal(
                    f"unexpected 'content' provided when using shared memory for input tensor '{name}' "
                    f"for model '{request.model_name}'"
                )
            data: Buffer = memory.toreadonly()
        elif not raws:
            data = _typed(entry, request.model_name)
        elif entry.HasField("contents"):
            raise Refusal(
                f"contents field must not be specified when using raw_input_contents "
                f"for '{name}' for model '{request.model_name}'"
            )
        elif at == len(raws):
            raise _no_data(name, request.model_name)
        else:
            data = raws[at]
            at += 1
        call.inputs.append(tensor(name, datatype, tuple(entry.shape), data))
    if request.outputs:
        call.outputs = [_output(entry, region) for entry in request.outputs]
    return call


def _typed(entry: Any, model: str) -> bytes:
    given = entry.contents.ListFields()
    if not given:
        if entry.HasField("contents"):
            return b""  # as many elements as a list that is not written has
        raise _no_data(entry.name, model)
    for position, (field, _) in enumerate(given):
        datatypes, called = _CONTENTS[field.name]
        unexpected = f"unexpected explicit tensor data for input tensor '{entry.name}' for model '{model}'"
        if position:
            raise Refusal(f"{unexpected}, binary data was already supplied.")
        if entry.datatype not in datatypes:
            raise Refusal(f"{unexpected} of type '{called}', expected datatype '{entry.datatype}'")
    ((_, values),) = given
    try:
        return _pack(entry.datatype, values)
    except OverflowError:
        raise Refusal(f"input '{entry.name}' has a number outside the range of {entry.datatype}") from None


def _pack(datatype: str, values: Any) -> bytes:
    if datatype == "BYTES":
        return join_bytes(values)
    if datatype == "BOOL":
        return bytes(values)
    return array(CODES[datatype], values).tobytes()


def _no_data(name: str, model: str) -> Refusal:
    return Refusal(f"unable to find data for input tensor '{name}' for model '{model}' in request.")


def _memory(name: str, parameters: Any, region: View) -> memoryview | None:
    """Find the memory that a tensor's parameters name, or None where they name none."""
    shared = SHARED_MEMORY in parameters
    place = {}
    for key in ("shared_memory_offset", "shared_memory_byte_size"):
        if key not in parameters:
            continue
        if not shared:
            raise Refusal(f"'{key}' can not be specified without '{SHARED_MEMORY}' parameter for tensor '{name}'")
        place[key] = _place(name, key, parameters[key], "int64_param") & _UINT64
    if not shared:
        return None
    found = _place(name, SHARED_MEMORY, parameters[SHARED_MEMORY], "string_param")
    if "shared_memory_byte_size" not in place:
        raise Refusal(
            f"'shared_memory_byte_size' must be specified along with '{SHARED_MEMORY}' parameter for tensor '{name}'"
        )
    return region(found, place.get("shared_memory_offset", 0), place["shared_memory_byte_size"])


def _place(tensor: str, key: str, value: Any, wanted: str) -> Any:
    if value.WhichOneof("parameter_choice") != wanted:
        raise Refusal(f"invalid value type for '{key}' parameter for tensor '{tensor}', expected {wanted}.")
    return getattr(value, wanted)


def _read_parameters(parameters: Any, call: InferCall[Any]) -> None:
    for key, value in parameters.items():
        match key:
            case "sequence_id":
                call.sequence_id = _choice(key, value, "int64_param", "string_param")
            case "sequence_start":
                call.sequence_start = _choice(key, value, "bool_param")
            case "sequence_end":
                call.sequence_end = _choice(key, value, "bool_param")
            case "priority":
                call.priority = _choice(key, value, "int64_param", "uint64_param")
                if call.priority < 0:
                    raise Refusal("invalid value for 'priority', expected value >= 0.")
            case "timeout":
                call.timeout_us = _choice(key, value, "int64_param") & _UINT64
            case _ if key == EMPTY_FINAL_RESPONSE:
                call.empty_final_response = _choice(key, value, "bool_param")
            case _ if key.startswith(RESERVED_PREFIX):
                raise Refusal(
                    "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
                    f"starting with 'triton_' are allowed: {EMPTY_FINAL_RESPONSE}"
                )
            case _:
                call.parameters[key] = _custom(key, value)


def _choice(key: str, value: Any, *allowed: str) -> Any:
    choice = value.WhichOneof("parameter_choice")
    if choice not in allowed:
        raise Refusal(f"invalid value type for '{key}' parameter, expected {' or '.join(allowed)}.")
    return getattr(value, choice)


def _custom(key: str, value: Any) -> Parameter:
    choice = value.WhichOneof("parameter_choice")
    if choice is None or choice == "uint64_param":
        raise Refusal(f"invalid value type for '{key}' parameter, expected int64_param, bool_param, or string_param.")
    return getattr(value, choice)  # type: ignore[no-any-return]  # one of the scalar types, by the schema


def _output(entry: Any, region: View) -> OutputRequest:
    output = OutputRequest(entry.name, binary=True)
    if not entry.parameters:
        return output
    parameters = entry.parameters
    if "classification" in parameters:
        number = parameters["classification"]
        if number.WhichOneof("parameter_choice") != "int64_param":
            raise Refusal("invalid value type for 'classification' parameter, expected int64_param")
        if number.int64_param <= 0:
            raise Refusal("invalid value for 'classification' parameter, expected >= 0")
        if SHARED_MEMORY in parameters:
            raise Refusal(f"output can't set both '{SHARED_MEMORY}' and 'classification'")
        output.classification = number.int64_param
    output.memory = _memory(entry.name, parameters, region)
    return output
