"""One table of calls, asked of both transports: our own HTTP/2 and grpcio's server answer alike, case by case."""

import grpc
import pytest
from qa.unit.grpc.test_stream import repeat
from qa.unit.grpc.test_unary import add_sub
from tritonclient.grpc import service_pb2 as pb

from tritium.core.serving import ServerState
from tritium.grpc.front import Front
from tritium.grpc.methods import methods
from tritium.wire.grpc import Effort
from tritium.wire.listener import listen_grpc, listen_grpcio

SERVICE = "/inference.GRPCInferenceService/"
INFER, STREAM = SERVICE + "ModelInfer", SERVICE + "ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/"


def written(*requests):
    return [request.SerializeToString() for request in requests]


def late():
    """A request that is answered when it is cancelled, and not before."""
    request = pb.ModelInferRequest(model_name="patient", raw_input_contents=[bytes(4)])
    request.inputs.add(name="INPUT0", datatype="FP32", shape=[1])
    return request


GOOD = written(add_sub(id="7"))
CASES = {
    "live": (SERVICE + "ServerLive", [b""], {}),
    "ready": (SERVICE + "ModelReady", written(pb.ModelReadyRequest(name="add_sub")), {}),
    "metadata": (SERVICE + "ModelMetadata", written(pb.ModelMetadataRequest(name="add_sub")), {}),
    "config": (SERVICE + "ModelConfig", written(pb.ModelConfigRequest(name="add_sub")), {}),
    "index": (SERVICE + "RepositoryIndex", [b""], {}),
    "settings": (SERVICE + "TraceSetting", [b""], {}),
    "regions": (SERVICE + "SystemSharedMemoryStatus", [b""], {}),
    "health": (HEALTH + "Check", [b""], {}),
    "health watched": (HEALTH + "Watch", [b""], {}),
    "infer": (INFER, GOOD, {}),
    "infer with gzip": (INFER, GOOD, {"compression": grpc.Compression.Gzip}),
    "infer with deflate": (INFER, GOOD, {"compression": grpc.Compression.Deflate}),
    "infer with metadata": (INFER, GOOD, {"metadata": (("a", "b"), ("c-bin", b"\0\xff"))}),
    "infer in time": (INFER, GOOD, {"timeout": 60}),
    "infer too late": (INFER, written(late()), {"timeout": 0.2}),
    "unknown model": (INFER, written(add_sub("nope")), {}),
    "words beyond ascii": (INFER, written(add_sub("n\u00f6 %pe\n\u2603")), {}),
    "a model that raises": (INFER, written(add_sub("boom")), {}),
    "no message": (INFER, [b"\xff\xff\xff"], {}),
    "an empty message": (INFER, [b""], {}),
    "unknown method": (SERVICE + "Nope", [b""], {}),
    "unknown service": ("/a.B/C", [b""], {}),
    "stream": (STREAM, GOOD * 3, {}),
    "stream of nothing": (STREAM, [], {}),
    "stream of many": (STREAM, written(repeat(5, request_id="x"), repeat(0), repeat(2, error_at=1)), {}),
    "stream with an error": (STREAM, [*written(add_sub("nope")), *GOOD], {}),
    "stream that ends with its error": (
        STREAM,
        written(add_sub("nope")),
        {"metadata": (("triton_grpc_error", "true"),)},
    ),
    "stream of no message": (STREAM, [b"\xff\xff\xff"], {}),
}


@pytest.fixture
async def channels(house, houses):
    """A channel to each transport, over the same models, compressing where a client takes it."""
    front = Front(ServerState(house, name="triton", version="2.51.0", labels=houses.labels), effort=Effort.LOW)
    listeners = [await start(methods(front), host="127.0.0.1", port=0) for start in (listen_grpc, listen_grpcio)]
    opened = [grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") for listener in listeners]
    yield opened
    for channel in opened:
        await channel.close()
    for listener in listeners:
        await listener.close(0)


async def outcome(channel, path, messages, how):
    """Make a call; return everything that a client can see of its end."""
    if path == STREAM:
        call = channel.stream_stream(path)(iter(messages), **how)
    else:
        call = channel.unary_unary(path)(messages[0], **how)
    answers = []
    try:
        if path == STREAM:
            answers.extend([answer async for answer in call])
        else:
            answers.append(await call)
    except grpc.aio.AioRpcError:
        pass
    trailing = dict(await call.trailing_metadata() or ())
    return await call.code(), await call.details(), answers, trailing


@pytest.mark.parametrize("case", CASES)
async def test_both_transports_answer_alike(channels, case):
    """Status, message, answers in order, and what comes behind them."""
    ours, theirs = [await outcome(channel, *CASES[case]) for channel in channels]
    if case == "infer too late":  # the client's own clock may be first, with words of its own
        ours, theirs = ours[0], theirs[0]
    assert ours == theirs
