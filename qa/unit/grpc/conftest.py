import asyncio
import importlib.util
import sys
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from tritium.core.serving import ServerState
from tritium.grpc.front import Front
from tritium.grpc.methods import methods
from tritium.wire.listener import listen_grpc, listen_grpcio


@pytest.fixture(scope="session")
def houses():
    """The module of small models, beside the tests of HTTP."""
    name = "house_of_models"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "http" / "house.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
async def house(houses):
    made = houses.house()
    yield made
    await made.close()


@pytest.fixture
async def listeners():
    """The open ports, closed behind the test."""
    opened = []
    yield opened
    for listener in opened:
        await listener.close(grace_s=1)


@pytest.fixture(params=[listen_grpc, listen_grpcio], ids=["own", "grpcio"])
async def serve(request, house, houses, listeners):
    """Open a real gRPC port over the house of models, on either transport, with the options given."""

    async def start(state=(), **rules):
        server = ServerState(house, name="triton", version="2.51.0", labels=houses.labels, **dict(state))
        listeners.append(await request.param(methods(Front(server, **rules)), host="127.0.0.1", port=0))
        return listeners[-1].port

    return start


@pytest.fixture
async def port(serve):
    """A port without any options."""
    return await serve()


@pytest.fixture
async def channel(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as made:
        yield made


@pytest.fixture
def stub(channel):
    """Triton's service, as its protobufs define it."""
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture
def watched(house):
    """Watch a model: events of a request's arrival and of its cancellation."""

    def watch(name):
        model = house.model(name)
        submit, submitted, cancelled = model.submit, asyncio.Event(), asyncio.Event()

        def watching(request, reply):
            request.on_cancel(cancelled.set)
            submit(request, reply)
            submitted.set()

        model.submit = watching
        return submitted, cancelled

    return watch
