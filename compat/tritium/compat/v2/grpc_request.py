"""A ModelInferRequest to plain values.

Tensors come as `raw_input_contents`, in the order of the inputs, or each as the typed `contents` of its input.
"""

from array import array
from collections.abc import Sequence
from typing import Any, TypeVar

from tritium.compat.v2.call import InferCall, MakeTensor, OutputRequest, Parameter
from tritium.compat.v2.elements import CODES, Buffer, join_bytes
from tritium.compat.v2.infer_request import SHARED_MEMORY, no_region
from tritium.compat.v2.refusal import Refusal

T = TypeVar("T")

EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"

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


def decode(request: Any, tensor: MakeTensor[T], raws: Sequence[Buffer] = ()) -> InferCall[T]:
    """Read a message; `raws` are its raw_input_contents where they were cut out of it.

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
        if entry.parameters:
            _refuse_shared_memory(name, entry.parameters)
        if not raws:
            data: Buffer = _typed(entry, request.model_name)
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
        call.outputs = [_output(entry) for entry in request.outputs]
    return call


def _typed(entry: Any, model: str) -> bytes:
    given = entry.contents.ListFields()
    if not given:
        raise _no_data(entry.name, model)
    for field, _ in given:
        datatypes, called = _CONTENTS[field.name]
        if entry.datatype not in datatypes:
            raise Refusal(
                f"unexpected explicit tensor data for input tensor '{entry.name}' for model '{model}' "
                f"of type '{called}', expected datatype '{entry.datatype}'"
            )
    ((_, values),) = given  # no datatype is carried by two fields
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


def _refuse_shared_memory(name: str, parameters: Any) -> None:
    if SHARED_MEMORY in parameters:
        region = parameters[SHARED_MEMORY]
        if region.WhichOneof("parameter_choice") != "string_param":
            raise Refusal(
                f"invalid value type for '{SHARED_MEMORY}' parameter for tensor '{name}', expected string_param."
            )
        raise no_region(region.string_param)


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
                call.priority = _positive(key, _choice(key, value, "int64_param", "uint64_param"))
            case "timeout":
                call.timeout_us = _positive(key, _choice(key, value, "int64_param"))
            case _ if key == EMPTY_FINAL_RESPONSE:
                call.empty_final_response = _choice(key, value, "bool_param")
            case _:
                call.parameters[key] = _custom(key, value)


def _choice(key: str, value: Any, *allowed: str) -> Any:
    choice = value.WhichOneof("parameter_choice")
    if choice not in allowed:
        raise Refusal(f"invalid value type for '{key}' parameter, expected {' or '.join(allowed)}.")
    return getattr(value, choice)


def _positive(key: str, value: int) -> int:
    if value < 0:
        raise Refusal(f"invalid value for '{key}' parameter, expected >= 0")
    return value


def _custom(key: str, value: Any) -> Parameter:
    choice = value.WhichOneof("parameter_choice")
    if choice is None or choice == "uint64_param":
        raise Refusal(f"invalid value type for '{key}' parameter, expected int64_param, bool_param, or string_param.")
    return getattr(value, choice)  # type: ignore[no-any-return]  # one of the scalar types, by the schema


def _output(entry: Any) -> OutputRequest:
    output = OutputRequest(entry.name, binary=True)
    if not entry.parameters:
        return output
    parameters = entry.parameters
    if "classification" in parameters:
        number = parameters["classification"]
        if number.WhichOneof("parameter_choice") != "int64_param":
            raise Refusal("invalid value type for 'classification' parameter, expected int64_param")
        if number.int64_param < 0:
            raise Refusal("invalid value for 'classification' parameter, expected >= 0")
        output.classification = number.int64_param
    if SHARED_MEMORY in parameters and output.classification:
        raise Refusal(f"output can't set both '{SHARED_MEMORY}' and 'classification'")
    _refuse_shared_memory(entry.name, parameters)
    return output
