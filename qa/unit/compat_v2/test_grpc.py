"""ModelInferRequest and ModelInferResponse: against the protobuf library."""

import contextlib
from dataclasses import dataclass

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from tritium.compat.protobufs import service_pb2
from tritium.compat.v2 import grpc_large, grpc_response
from tritium.compat.v2.call import Form
from tritium.compat.v2.grpc_request import decode
from tritium.compat.v2.refusal import Refusal

Request = service_pb2.ModelInferRequest
Response = service_pb2.ModelInferResponse


@dataclass
class Tensor:
    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


texts = st.text(max_size=20).filter(lambda text: text.isprintable())
parameters = st.dictionaries(
    texts, st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts | st.floats(allow_nan=False), max_size=3
)
tensors = st.builds(
    Tensor,
    texts,
    st.sampled_from(["FP32", "BYTES"]),
    st.lists(st.integers(0, 2**40), max_size=4).map(tuple),
    st.binary(max_size=300),
)
formed = st.tuples(tensors, st.sampled_from([Form.BYTES, Form.MEMORY]))


@given(texts, texts, texts, parameters, st.lists(formed, max_size=3), st.sampled_from([None, True, False]))
def test_responses_are_what_the_protobuf_library_would_write(
    model, version, request_id, given_parameters, outputs, final
):
    """Whatever is in a response, the library reads the same; what went through shared memory has no contents."""
    expected = Response(model_name=model, model_version=version, id=request_id)
    for key, value in given_parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
        setattr(expected.parameters[key], kind, value)
    if final is not None:
        expected.parameters["triton_final_response"].bool_param = final
    for tensor, form in outputs:
        expected.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        expected.raw_output_contents.append(tensor.data if form is Form.BYTES else b"")
    written = b"".join(grpc_response.encode(model, version, request_id, given_parameters, outputs, final=final))
    assert Response.FromString(written) == expected


@given(st.binary(max_size=300), texts)
def test_stream_items_are_what_the_protobuf_library_would_write(raw, error):
    """An item is a response, with an error where there is one."""
    response = Response(model_name="m", raw_output_contents=[raw])
    item = service_pb2.ModelStreamInferResponse.FromString(
        grpc_response.stream_item([response.SerializeToString()], error)
    )
    assert item.infer_response == response
    assert item.error_message == error


@given(st.lists(tensors, max_size=3), texts, parameters.map(list))
def test_a_large_request_is_cut_as_the_protobuf_library_reads_it(inputs, model, unknown):
    """Its tensors are views of it, and what is left is the same message without them."""
    message = Request(model_name=model, raw_input_contents=[tensor.data for tensor in inputs])
    for tensor in inputs:
        message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    # Fields nobody knows, one of each wire type; they stay where they are.
    extra = b"\x98\x06\x96\x01" + b"\x99\x06" + bytes(8) + b"\x9d\x06" + bytes(4) + b"\x9a\x06\x01x"
    head, raws = grpc_large.cut(memoryview(message.SerializeToString() + extra * len(unknown)))
    assert raws == [tensor.data for tensor in inputs]
    del message.raw_input_contents[:]
    assert head == message.SerializeToString() + extra * len(unknown)


@given(st.binary(max_size=40))
def test_nonsense_is_cut_or_refused(raw):
    """Where the library reads a message, so does the cut; it never raises anything but ValueError."""
    try:
        head, raws = grpc_large.cut(memoryview(raw))
    except ValueError:
        return
    with contextlib.suppress(DecodeError):
        message = Request.FromString(raw)
        assert list(message.raw_input_contents) == raws
        assert Request.FromString(head).model_name == message.model_name


def test_large_outputs_are_not_copied():
    """The bytes of a large response are the tensor's own; a small one is one piece."""
    large = Tensor("A", "UINT8", (1 << 20,), bytes(1 << 20))
    small = Tensor("A", "UINT8", (4,), b"abcd")
    assert grpc_response.encode("m", "1", "", {}, [(large, Form.BYTES)])[-1] is large.data
    assert len(grpc_response.encode("m", "1", "", {}, [(small, Form.BYTES)])) == 1


def test_a_parameter_keeps_its_type():
    """True, 1 and 1.0 are equal in Python and are not the same parameter."""
    for value, kind in ((True, "bool_param"), (1, "int64_param"), (1.0, "double_param")):
        message = Response.FromString(b"".join(grpc_response.encode("m", "1", "", {"p": value}, ())))
        assert message.parameters["p"].WhichOneof("parameter_choice") == kind


def request(**fields):
    message = Request(model_name="m", id="7")
    message.inputs.add(name="A", datatype="FP32", shape=[2])
    for key, value in fields.items():
        if isinstance(value, service_pb2.InferParameter):
            message.parameters[key].CopyFrom(value)
        else:
            getattr(message, key).extend(value)
    return message


def parameter(**choice):
    return service_pb2.InferParameter(**choice)


RAW = {"raw_input_contents": [np.array([1, 2], "<f4").tobytes()]}


def test_everything_a_request_can_say():
    """Reserved parameters become fields, the others go to the model."""
    message = request(
        **RAW,
        sequence_id=parameter(string_param="s"),
        sequence_start=parameter(bool_param=True),
        sequence_end=parameter(bool_param=True),
        priority=parameter(uint64_param=2),
        timeout=parameter(int64_param=1000),
        triton_enable_empty_final_response=parameter(bool_param=True),
        own=parameter(double_param=1.5),
    )
    message.outputs.add(name="B").parameters["classification"].int64_param = 3
    call = decode(message, Tensor)
    assert (call.id, call.sequence_id, call.sequence_start, call.sequence_end) == ("7", "s", True, True)
    assert (call.priority, call.timeout_us, call.parameters) == (2, 1000, {"own": 1.5})
    assert call.empty_final_response
    assert [(o.name, o.classification) for o in call.outputs] == [("B", 3)]
    assert call.inputs == [Tensor("A", "FP32", (2,), RAW["raw_input_contents"][0])]


@pytest.mark.parametrize(
    ("datatype", "field", "values", "raw"),
    [
        ("BOOL", "bool_contents", [True, False], b"\1\0"),
        ("INT8", "int_contents", [-1, 2], b"\xff\2"),
        ("INT16", "int_contents", [-1, 2], b"\xff\xff\2\0"),
        ("INT32", "int_contents", [-1], b"\xff\xff\xff\xff"),
        ("INT64", "int64_contents", [-1], b"\xff" * 8),
        ("UINT8", "uint_contents", [1, 2], b"\1\2"),
        ("UINT16", "uint_contents", [1], b"\1\0"),
        ("UINT32", "uint_contents", [1], b"\1\0\0\0"),
        ("UINT64", "uint64_contents", [1], b"\1" + b"\0" * 7),
        ("FP32", "fp32_contents", [1.5], np.float32(1.5).tobytes()),
        ("FP64", "fp64_contents", [1.5], np.float64(1.5).tobytes()),
        ("BYTES", "bytes_contents", [b"ab", b""], b"\2\0\0\0ab\0\0\0\0"),
    ],
)
def test_typed_contents_become_binary(datatype, field, values, raw):
    """Each datatype has its field."""
    message = Request(model_name="m")
    entry = message.inputs.add(name="A", datatype=datatype, shape=[len(values)])
    getattr(entry.contents, field).extend(values)
    assert decode(message, Tensor).inputs[0].data == raw


def test_typed_numbers_out_of_range_are_refused():
    """An INT8 of 300 is a mistake of the client."""
    message = Request(model_name="m")
    message.inputs.add(name="A", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    with pytest.raises(Refusal, match="'A' has a number outside the range of INT8"):
        decode(message, Tensor)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (request(), "unable to find data for input tensor 'A' for model 'm' in request."),
        (
            request(**RAW, u=parameter(uint64_param=7)),
            "invalid value type for 'u' parameter, expected int64_param, bool_param, or string_param.",
        ),
        (
            request(**RAW, priority=parameter(string_param="1")),
            "invalid value type for 'priority' parameter, expected int64_param or uint64_param.",
        ),
        (
            request(**RAW, sequence_id=parameter(bool_param=True)),
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
        ),
        (
            request(**RAW, sequence_start=parameter(int64_param=1)),
            "invalid value type for 'sequence_start' parameter, expected bool_param.",
        ),
        (
            request(**RAW, timeout=parameter(string_param="1")),
            "invalid value type for 'timeout' parameter, expected int64_param.",
        ),
        (
            request(**RAW, priority=parameter(int64_param=-1)),
            "invalid value for 'priority', expected value >= 0.",
        ),
        (
            request(**RAW, triton_final_response=parameter(bool_param=True)),
            (
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
                "starting with 'triton_' are allowed: triton_enable_empty_final_response"
            ),
        ),
    ],
)
def test_wrong_requests_are_refused_in_tritons_words(message, words):
    """The text a Triton client may look for."""
    with pytest.raises(Refusal) as refused:
        decode(message, Tensor)
    assert refused.value.message == words


def test_a_negative_timeout_is_as_good_as_none():
    """Triton keeps it as an unsigned number, of half a million years."""
    assert decode(request(**RAW, timeout=parameter(int64_param=-1)), Tensor).timeout_us == 2**64 - 1


def test_contents_of_nothing_are_no_elements():
    """A tensor of no elements may come with contents in which no list is written."""
    message = Request(model_name="m")
    message.inputs.add(name="A", datatype="FP32", shape=[0]).contents.SetInParent()
    assert decode(message, Tensor).inputs[0].data == b""


def test_contents_in_two_lists_are_refused():
    """The first list is taken, the second is one too many."""
    message = Request(model_name="m")
    contents = message.inputs.add(name="A", datatype="INT32", shape=[1]).contents
    contents.int_contents.append(1)
    contents.fp32_contents.append(1)
    with pytest.raises(Refusal, match="'A' for model 'm', binary data was already supplied"):
        decode(message, Tensor)


MEMORY = memoryview(bytearray(range(64)))


def region(name, offset, byte_size):
    """A server's registry of one region, "r"."""
    assert name == "r"
    return MEMORY[offset : offset + byte_size]


def shared(tensor, **place):
    for key, value in place.items():
        kind = "string_param" if isinstance(value, str) else "int64_param"
        setattr(tensor.parameters[f"shared_memory_{key}"], kind, value)


def test_tensors_in_shared_memory():
    """An input is a view of its region that cannot be written to, an output one that can; raw inputs skip neither."""
    message = Request(model_name="m", raw_input_contents=[b"raw!"])
    shared(message.inputs.add(name="A", datatype="UINT8", shape=[4]), region="r", offset=8, byte_size=4)
    message.inputs.add(name="B", datatype="UINT8", shape=[4])
    shared(message.outputs.add(name="C"), region="r", byte_size=16)
    call = decode(message, Tensor, region=region)
    (first, second), (output,) = call.inputs, call.outputs
    assert (bytes(first.data), first.data.readonly, second.data) == (bytes(range(8, 12)), True, b"raw!")
    assert (len(output.memory), output.memory.readonly) == (16, False)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            {"region": 5, "byte_size": 4},
            "invalid value type for 'shared_memory_region' parameter for tensor 'A', expected string_param.",
        ),
        (
            {"region": "r", "byte_size": "4"},
            "invalid value type for 'shared_memory_byte_size' parameter for tensor 'A', expected int64_param.",
        ),
        (
            {"region": "r"},
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for tensor 'A'",
        ),
        (
            {"offset": 4},
            "'shared_memory_offset' can not be specified without 'shared_memory_region' parameter for tensor 'A'",
        ),
        (
            {"byte_size": 4},
            "'shared_memory_byte_size' can not be specified without 'shared_memory_region' parameter for tensor 'A'",
        ),
    ],
)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_wrong_places_are_refused_in_tritons_words(side, place, words):
    """For inputs and outputs alike."""
    message = Request(model_name="m", raw_input_contents=[b"1234"])
    shared(getattr(message, side).add(name="A"), **place)
    with pytest.raises(Refusal) as refused:
        decode(message, Tensor, region=region)
    assert refused.value.message == words


def test_shared_memory_excludes_contents_and_classes():
    """An input has one source, and classes are not written to memory."""
    message = Request(model_name="m")
    entry = message.inputs.add(name="A", datatype="UINT8", shape=[1])
    entry.contents.uint_contents.append(1)
    shared(entry, region="r", byte_size=1)
    with pytest.raises(Refusal, match="unexpected 'content' provided when using shared memory for input tensor 'A'"):
        decode(message, Tensor, region=region)
    message = Request(model_name="m")
    output = message.outputs.add(name="B")
    output.parameters["classification"].int64_param = 1
    shared(output, region="r", byte_size=1)
    with pytest.raises(Refusal, match="output can't set both 'shared_memory_region' and 'classification'"):
        decode(message, Tensor, region=region)


@pytest.mark.parametrize("classes", [0, -1])
def test_classes_are_counted_from_one(classes):
    """No classes are no answer; the text is Triton's."""
    message = request(**RAW)
    message.outputs.add(name="B").parameters["classification"].int64_param = classes
    with pytest.raises(Refusal, match="invalid value for 'classification' parameter, expected >= 0"):
        decode(message, Tensor)
