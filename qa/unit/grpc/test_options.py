"""What a port may be told: which protocols need a secret, which headers are forwarded, what is compressed."""

import re

import grpc
import pytest
from qa.unit.grpc.test_unary import add_sub
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritium.compat.restrictions import parse

CODE = grpc.StatusCode
SECRET = (("triton-grpc-protocol-admin-key", "s3cret"),)
CALLS = {
    "health": ("ServerLive", pb.ServerLiveRequest()),
    "metadata": ("ModelMetadata", pb.ModelMetadataRequest(name="add_sub")),
    "inference": ("ModelInfer", add_sub()),
    "shared-memory": ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()),
    "model-config": ("ModelConfig", pb.ModelConfigRequest(name="add_sub")),
    "model-repository": ("RepositoryIndex", pb.RepositoryIndexRequest()),
    "statistics": ("ModelStatistics", pb.ModelStatisticsRequest()),
    "trace": ("TraceSetting", pb.TraceSettingRequest()),
    "logging": ("LogSettings", pb.LogSettingsRequest()),
}


@pytest.fixture
async def stubs(serve):
    """Stubs of ports with options."""
    channels = []

    async def make(**options):
        channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{await serve(**options)}"))
        return service_pb2_grpc.GRPCInferenceServiceStub(channels[-1])

    yield make
    for channel in channels:
        await channel.close()


def restricted(categories):
    return parse([f"{categories}:admin-key=s3cret"], what="protocol")


async def status(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    return CODE.OK, ""


@pytest.mark.parametrize("category", CALLS)
async def test_a_restricted_protocol_needs_its_header(stubs, category):
    """Without it, or with another value, the call is refused; other protocols are not concerned."""
    stub = await stubs(restricted=restricted(category))
    refusal = (
        CODE.UNAVAILABLE,
        "This protocol is restricted, expecting header 'triton-grpc-protocol-admin-key'",
    )
    for name, (method, request) in CALLS.items():
        call = getattr(stub, method)
        if name != category:
            assert await status(call(request)) == (CODE.OK, "")
            continue
        assert await status(call(request)) == refusal
        assert await status(call(request, metadata=((SECRET[0][0], "guess"),))) == refusal
        assert await status(call(request, metadata=SECRET)) == (CODE.OK, "")


async def test_a_restricted_stream_ends_at_once(stubs):
    """Streams belong to inference."""
    stub = await stubs(restricted=restricted("inference"))
    call = stub.ModelStreamInfer()
    assert await call.code() is CODE.UNAVAILABLE
    assert (await call.details()).startswith("This protocol is restricted")
    (item,) = [item async for item in stub.ModelStreamInfer(iter([add_sub()]), metadata=SECRET)]
    assert not item.error_message


async def test_the_health_service_is_health(serve):
    """A restricted health check asks for the header, too."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await serve(restricted=restricted('health'))}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert (await status(check(b"")))[0] is CODE.UNAVAILABLE
        assert await check(b"", metadata=SECRET) == b"\x08\x01"


async def test_headers_become_parameters(stubs, house):
    """Those that match, beside the request's own; over streams as well."""
    seen = []
    model = house.model("add_sub")
    submit = model.submit

    def watching(request, reply):
        seen.append(dict(request.parameters))
        submit(request, reply)

    model.submit = watching
    stub = await stubs(forwarded=re.compile("^my-"))
    request = add_sub()
    request.parameters["own"].int64_param = 1
    headers = (("my-header", "a"), ("other", "b"))
    await stub.ModelInfer(request, metadata=headers)
    [item async for item in stub.ModelStreamInfer(iter([request]), metadata=headers)]
    assert seen == [{"own": 1, "my-header": "a"}] * 2


async def test_reserved_headers_are_refused(stubs):
    """A client cannot smuggle in what means something to the server."""
    stub = await stubs(forwarded=re.compile(".*"))
    words = "Header 'priority' is reserved for Triton usage and cannot be forwarded."
    assert await status(stub.ModelInfer(add_sub(), metadata=(("priority", "1"),))) == (CODE.INVALID_ARGUMENT, words)
    (item,) = [item async for item in stub.ModelStreamInfer(iter([add_sub()]), metadata=(("priority", "1"),))]
    assert item.error_message == words
