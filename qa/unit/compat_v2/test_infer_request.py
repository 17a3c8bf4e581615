"""The body of an infer request."""

import json
from dataclasses import dataclass

import pytest

from tritium.compat.v2.infer_request import decode, decode_raw, header_size
from tritium.compat.v2.refusal import Code, Refusal


@dataclass
class Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


FOUR = {"name": "INPUT0", "shape": [4], "datatype": "FP32", "data": [1, 2, 3, 4]}


def read(document, *tensors: bytes):
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode(text + b"".join(tensors), len(text), "m", Tensor, most=1000)


def nested(element, depth: int):
    for _ in range(depth):
        element = [element]
    return element


def without(member: str):
    return {"inputs": [{key: value for key, value in FOUR.items() if key != member}]}


def binary(name: str, size: int, **parameters):
    return {"name": name, "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": size, **parameters}}


def asking(**parameters):
    return {"inputs": [], "outputs": [{"name": "A", "parameters": parameters}]}


def test_everything_a_request_can_say():
    """Reserved parameters become fields, the others go to the model."""
    call = read(
        {
            "id": "7",
            "parameters": {
                "sequence_id": 42,
                "sequence_start": True,
                "sequence_end": True,
                "priority": 2,
                "timeout": 1000,
                "binary_data_output": True,
                "own": "x",
                "number": 1.5,
            },
            "inputs": [FOUR],
            "outputs": [
                {"name": "A"},
                {"name": "B", "parameters": {"binary_data": False}},
                {"name": "C", "parameters": {"classification": 3}},
            ],
        }
    )
    assert (call.id, call.sequence_id, call.sequence_start, call.sequence_end) == ("7", 42, True, True)
    assert (call.priority, call.timeout_us, call.parameters) == (2, 1000, {"own": "x", "number": 1.5})
    assert [(o.name, o.binary, o.classification) for o in call.outputs] == [
        ("A", False, 0),
        ("B", False, 0),
        ("C", False, 3),
    ]
    assert [(t.name, t.datatype, t.shape, len(t.data)) for t in call.inputs] == [("INPUT0", "FP32", (4,), 16)]


def test_binary_tensors_follow_in_the_order_of_the_inputs():
    """Each takes its size; JSON data in between takes nothing."""
    call = read({"inputs": [binary("A", 2), FOUR, binary("B", 2)]}, b"\1\2", b"\3\4")
    assert [bytes(tensor.data) for tensor in call.inputs if tensor.datatype == "UINT8"] == [b"\1\2", b"\3\4"]


def test_binary_tensors_are_not_copied():
    """A large tensor stays where it arrived."""
    text = json.dumps({"inputs": [binary("A", 2)]}).encode()
    body = bytearray(text + b"\1\2")
    call = decode(memoryview(body), len(text), "m", Tensor)
    body[-1] = 9
    assert bytes(call.inputs[0].data) == b"\1\x09"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
        (b"[]", "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
        (b"5", "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
        ({"inputs": 5}, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
        ({"inputs": [5]}, "Unable to parse 'name': attempt to access non-existing object member 'name'"),
        (without("name"), "Unable to parse 'name': attempt to access non-existing object member 'name'"),
        (without("datatype"), "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'"),
        (without("shape"), "Unable to parse 'shape': attempt to access non-existing object member 'shape'"),
        (
            {"inputs": [FOUR | {"shape": [-1]}]},
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [FOUR | {"shape": [4.0]}]},
            "Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        ({"inputs": [FOUR | {"data": [1]}]}, "Failed to parse 'data' field: shape does not match true shape"),
        (
            {"inputs": [FOUR | {"data": [1, 2, 3, 4, 5]}]},
            "Unable to parse 'data': Shape does not match true shape of 'data' field",
        ),
        ({"inputs": [], "id": 5}, "Unable to parse 'id': attempt to access JSON non-string as string"),
        ({"inputs": [], "parameters": []}, "failed to get request params.: attempt to get members for non-object"),
        (
            {"inputs": [], "parameters": {"priority": "1"}},
            "Unable to parse 'priority': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [], "outputs": {"name": "A"}},
            "Unable to parse 'outputs': attempt to access JSON non-array as array",
        ),
        (
            asking(classification=-1),
            "Unable to set 'classification': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [binary("A", -1)]},
            "Unable to parse 'binary_data_size': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
    ],
)
def test_wrong_structure_is_internal_in_tritons_words(document, words):
    """A body of the wrong structure is 500 in Triton, and here."""
    with pytest.raises(Refusal) as refused:
        read(document)
    assert (refused.value.message, refused.value.code) == (words, Code.INTERNAL)


ONE_OF = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But "
)


@pytest.mark.parametrize(
    ("document", "tensors", "words"),
    [
        (without("data"), b"", ONE_OF + "no field is set"),
        (
            {"inputs": [FOUR | {"parameters": {"binary_data_size": 16}}]},
            b"0" * 16,
            ONE_OF + "set 'data' 'binary_data_size'",
        ),
        ({"inputs": [FOUR | {"datatype": "FOO"}]}, b"", "invalid datatype for input INPUT0"),
        (
            {"inputs": [binary("A", 2)]},
            b"\1",
            "unexpected size for input 'A', expecting 1 additional bytes for model 'm'",
        ),
        ({"inputs": [binary("A", 2)]}, b"\1\2\3", "unexpected additional input data for model 'm'"),
        (
            {"inputs": [], "parameters": {"foo": {"a": 1}}},
            b"",
            "parameter 'foo' has invalid type. It should be either 'int', 'bool', or 'string'.",
        ),
        (
            {"inputs": [FOUR | {"shape": [9223372036854775807]}]},
            b"",
            (
                "byte size overflow for input 'INPUT0': element count (9223372036854775807) * data type size (4) "
                "exceeds maximum allowed size (9223372036854775807)"
            ),
        ),
        (
            {"inputs": [FOUR | {"shape": [1000000000000]}]},
            b"",
            (
                "JSON input 'INPUT0' has a byte_size (4000000000000 bytes) that exceeds the maximum allowed value "
                "of 1000 bytes. Use --http-max-input-size to increase the limit."
            ),
        ),
        (
            {"inputs": [FOUR | {"shape": [2**62, 4]}]},
            b"",
            (
                "invalid shape for input 'INPUT0': shape [4611686018427387904,4] causes total element count "
                "to exceed maximum size of 9223372036854775807"
            ),
        ),
        (
            {"inputs": [FOUR | {"shape": [2**63]}]},
            b"",
            ("invalid shape for input 'INPUT0': shape [-9223372036854775808] contains one or more invalid dimensions"),
        ),
        (
            {"inputs": [FOUR | {"data": nested(1, 100)}]},
            b"",
            "Unable to parse 'data': JSON nesting depth exceeds maximum allowed limit (100)",
        ),
        (
            {"inputs": [FOUR | {"data": nested("a", 100), "datatype": "BYTES"}]},
            b"",
            "JSON nesting depth exceeds maximum allowed limit (100)",
        ),
        (
            {"inputs": [], "parameters": {"triton_x": 1}},
            b"",
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
        ),
        (
            asking(shared_memory_region="r", binary_data=True),
            b"",
            "Output can't set both 'shared_memory_region' and 'binary_data'",
        ),
    ],
)
def test_wrong_values_are_the_clients_fault(document, tensors, words):
    """A value that cannot be right is 400."""
    with pytest.raises(Refusal) as refused:
        read(document, tensors)
    assert (refused.value.message, refused.value.code) == (words, Code.INVALID_ARG)


@pytest.mark.parametrize(("header", "size"), [(b"", 100), (b"0", 0), (b"40", 40), (b" +7", 7), (b"12abc", 12)])
def test_the_header_length_is_read_as_c_reads_a_number(header, size):
    """Without the header all is JSON; what follows the digits is not looked at."""
    assert header_size(header, 100) == size


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
        (
            b"9" * 5000,
            "Unable to parse Inference-Header-Content-Length, value is out of range [ -2147483648, 2147483647 ], got: ",
        ),
    ],
)
def test_a_header_length_that_is_no_number_is_refused(header, words):
    """It stands for nothing, or for more than fits 32 bits."""
    with pytest.raises(Refusal) as refused:
        header_size(header, 100)
    assert refused.value.message.startswith(words)


@pytest.mark.parametrize("header", [b"101", b"-5"])
def test_a_header_length_outside_the_body_is_refused(header):
    """The JSON cannot end where there is no body."""
    with pytest.raises(Refusal, match=r"inference header size should be in range \(0, 100\), got: "):
        header_size(header, 100)


def test_a_raw_body_fills_the_open_dimension():
    """One dimension may be left to the body's size."""
    call = decode_raw(b"\0" * 24, "m", [("IN", "FP32", (1, -1, 2))], Tensor)
    assert call.inputs[0].shape == (1, 3, 2)
    assert call.binary_output


def test_a_raw_body_can_be_one_string():
    """A string's length is put before it."""
    call = decode_raw(b"hello", "m", [("IN", "BYTES", (1,))], Tensor)
    assert call.inputs[0].data == b"\5\0\0\0hello"


@pytest.mark.parametrize(
    "inputs",
    [
        [("A", "FP32", (1,)), ("B", "FP32", (1,))],
        [],
        [("A", "BYTES", (-1,))],
        [("A", "FP32", (-1, -1))],
    ],
)
def test_a_raw_body_that_no_shape_can_be_deduced_for_is_refused(inputs):
    """Several inputs, several strings, several open dimensions."""
    with pytest.raises(Refusal):
        decode_raw(b"\0" * 8, "m", inputs, Tensor)
