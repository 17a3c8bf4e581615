import asyncio
import importlib.util
import sys
from pathlib import Path

import httpx
import pytest

from tritium.core.serving import ServerState
from tritium.http.front import Front
from tritium.http.routes import handler
from tritium.wire.listener import listen_http


def _module(name, path):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def houses():
    """The module of small models, beside this file."""
    return _module("house_of_models", Path(__file__).parent / "house.py")


@pytest.fixture
async def house(houses):
    made = houses.house()
    yield made
    await made.close()


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


@pytest.fixture
def server(house, houses):
    return ServerState(house, name="triton", version="2.51.0", labels=houses.labels)


@pytest.fixture
async def port(server):
    """A real HTTP port over the house of models."""
    listener = await listen_http(handler(Front(server)), host="127.0.0.1", port=0)
    yield listener.port
    await listener.close(grace_s=1)


@pytest.fixture
async def client(port):
    """An HTTP client of that port."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=False) as made:
        yield made
