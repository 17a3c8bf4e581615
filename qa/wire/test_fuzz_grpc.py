"""gRPC under fire: damaged frames, damaged messages and odd requests get a status, and leave nothing behind."""

import time

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qa.wire.mutation import damaged, exchange
from qa.wire.transport.http2_peer import block, frames, message
from tritonclient.grpc import service_pb2 as pb

from tritium.wire.h2.frames import ACK, END_HEADERS, END_STREAM, PREFACE, Kind, pack_settings

SERVICE = "/inference.GRPCInferenceService/"
GROWTH_BYTES = 48 << 20
FAULTS = {grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.DATA_LOSS}
"""What no client can bring about here: a handler that fails, or one that does not answer."""


def infer(model="fp32", *, raw=True, **fields):
    request = pb.ModelInferRequest(model_name=model, id="7", **fields)
    tensor = request.inputs.add(name="INPUT0", datatype="FP32", shape=[2])
    if raw:
        request.raw_input_contents.append(bytes(8))
    else:
        tensor.contents.fp32_contents.extend([1, 2])
    request.parameters["own"].string_param = "x"
    request.parameters["sequence_id"].int64_param = 3
    output = request.outputs.add(name="OUTPUT0")
    output.parameters["classification"].int64_param = 1
    return request


def shared():
    request = infer(raw=False)
    request.inputs[0].ClearField("contents")
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    request.inputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    return request


def setting(request, **settings_):
    for name, value in settings_.items():
        request.settings[name].value.append(value)
    return request


CALLS = {
    "ModelInfer": [infer(), infer(raw=False), infer("fp32_batch"), shared()],
    "ModelReady": [pb.ModelReadyRequest(name="fp32", version="1")],
    "ModelMetadata": [pb.ModelMetadataRequest(name="fp32", version="1")],
    "ModelConfig": [pb.ModelConfigRequest(name="fp32")],
    "ModelStatistics": [pb.ModelStatisticsRequest(name="fp32")],
    "RepositoryIndex": [pb.RepositoryIndexRequest(ready=True)],
    "TraceSetting": [setting(pb.TraceSettingRequest(), trace_rate="10", trace_level="OFF")],
    "SystemSharedMemoryRegister": [pb.SystemSharedMemoryRegisterRequest(name="r", key="/none", byte_size=8)],
    "SystemSharedMemoryStatus": [pb.SystemSharedMemoryStatusRequest(name="r")],
    "CudaSharedMemoryRegister": [pb.CudaSharedMemoryRegisterRequest(name="c", raw_handle=b"h", byte_size=8)],
}


def session(*calls):
    """Write what a client sends that makes some calls, one after the other."""
    sent = PREFACE + pack_settings({}) + frames((Kind.SETTINGS, ACK, 0))
    for number, (method, request) in enumerate(calls):
        head = block({":path": SERVICE + method, "grpc-timeout": "9S"})
        sent += frames(
            (Kind.HEADERS, END_HEADERS, 2 * number + 1, head),
            (Kind.DATA, END_STREAM, 2 * number + 1, message(request.SerializeToString())),
        )
    return sent


SESSIONS = [
    *(session((method, request)) for method, requests in CALLS.items() for request in requests),
    session(*(("ModelInfer", infer()),) * 5, ("ModelStreamInfer", infer())),
    session(("ModelStreamInfer", infer())) + frames((Kind.RST_STREAM, 0, 1, bytes(4)), (Kind.PING, 0, 0, bytes(8))),
]


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as made:
        yield made


def ask(channel, method, data):
    """Make a call of raw bytes; return its status and message."""
    try:
        if method == "ModelStreamInfer":
            list(channel.stream_stream(SERVICE + method)(iter([data, data]), timeout=60))
        else:
            channel.unary_unary(SERVICE + method)(data, timeout=60)
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def settled(server, bound):
    """Wait until connections that were left are closed."""
    until = time.monotonic() + 60
    while server.descriptors() > bound and time.monotonic() < until:
        time.sleep(0.05)
    return server.descriptors()


def whole_frames(answer):
    """Tell whether the answer is HTTP/2 frames up to its end, or the one line for who speaks something else."""
    if answer.startswith(b"HTTP/1.1 400 "):
        return True
    while len(answer) >= 9:
        answer = answer[9 + int.from_bytes(answer[:3], "big") :]
    return not answer


def test_damaged_frames(server, channel):
    """Every answer is made of whole frames, the connection ends, nothing is kept, and the server still infers."""
    assert ask(channel, "ModelInfer", infer().SerializeToString())[0] is grpc.StatusCode.OK
    descriptors, resident = server.descriptors(), None
    for number, data in enumerate(damaged(SESSIONS, 20_000)):
        answer = exchange(server.grpc, data)
        assert whole_frames(answer), (data, answer)
        if number == 500:
            resident = server.resident_bytes()
    assert server.faults() == []
    assert settled(server, descriptors) <= descriptors
    assert resident is None or server.resident_bytes() - resident < GROWTH_BYTES
    assert ask(channel, "ModelInfer", infer().SerializeToString())[0] is grpc.StatusCode.OK


def test_damaged_messages(server, channel):
    """Whatever bytes a method is sent, it answers with a status of the client's fault, or with a result."""
    originals = {request.SerializeToString(): method for method, requests in CALLS.items() for request in requests}
    methods = [*CALLS, "ModelStreamInfer"]
    for number, data in enumerate(damaged(list(originals), 5000)):
        method = methods[number % len(methods)]
        code, words = ask(channel, method, data)
        assert code not in FAULTS, (method, data, words)
    assert server.faults() == []


numbers = st.integers(-(2**63), 2**63 - 1)
parameters = st.one_of(
    st.builds(pb.InferParameter, int64_param=numbers),
    st.builds(pb.InferParameter, bool_param=st.booleans()),
    st.builds(pb.InferParameter, string_param=st.text(max_size=5)),
    st.builds(pb.InferParameter, double_param=st.floats()),
    st.builds(pb.InferParameter, uint64_param=st.integers(0, 2**64 - 1)),
    st.builds(pb.InferParameter),
)
MEMORY = ["shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"]


def named(*names):
    return st.dictionaries(st.sampled_from(names), parameters, max_size=3)


contents = st.builds(
    pb.InferTensorContents,
    fp32_contents=st.lists(st.floats(width=32), max_size=4),
    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
    bytes_contents=st.lists(st.binary(max_size=4), max_size=2),
)
tensors = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["INPUT0", "INPUT1", ""]),
    datatype=st.sampled_from(["FP32", "BYTES", "INT8", "BF16", "FOO", ""]),
    shape=st.lists(st.integers(-2, 4) | numbers, max_size=3),
    parameters=named(*MEMORY, "x"),
    contents=st.none() | contents,
)
wanted = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor,
    name=st.sampled_from(["OUTPUT0", "OUTPUT1"]),
    parameters=named("classification", *MEMORY),
)
requests = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from(["fp32", "fp32_batch", "bytes", "int8", "nope", ""]),
    model_version=st.sampled_from(["", "1", "2", "-1", "x"]),
    id=st.text(max_size=3),
    parameters=named("sequence_id", "sequence_start", "priority", "timeout", "triton_enable_empty_final_response", "x"),
    inputs=st.lists(tensors, max_size=2),
    outputs=st.lists(wanted, max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=16), max_size=2),
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.sampled_from(["ModelInfer", "ModelStreamInfer"]), requests)
def test_odd_requests(server, channel, method, request):
    """Requests that are well formed and make no sense get a status that says so."""
    code, words = ask(channel, method, request.SerializeToString())
    assert code not in FAULTS, words
    assert server.faults() == []
