"""Tensors in memory that a client shares, over HTTP: a client's whole way, and what is refused."""

import base64
import mmap
import os
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from tritium.http.front import Front
from tritium.http.routes import handler
from tritium.memory.registry import RegionRegistry
from tritium.wire.listener import listen_http

PAGE = mmap.PAGESIZE
IN, OUT = 0, 64
"""Where the client of these tests puts what it sends, and what it wants."""


@pytest.fixture
def shared():
    """A shared memory object of two pages: its key, and the client's view of it."""
    path = Path(f"/dev/shm/tritium_http_test_{os.getpid()}")
    path.write_bytes(bytes(2 * PAGE))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        yield f"/{path.name}", view
    path.unlink()


@pytest.fixture
async def client(server):
    """A client of a server that lets it share memory."""
    front = Front(replace(server, regions=RegionRegistry()))
    listener = await listen_http(handler(front), host="127.0.0.1", port=0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}", timeout=60, verify=False) as made:
        yield made
    await listener.close(1)


async def register(client, key, **part):
    return await client.post("/v2/systemsharedmemory/region/r/register", json={"key": key, "byte_size": PAGE} | part)


def tensor(name, offset, size=16, **members):
    parameters = {"shared_memory_region": "r", "shared_memory_offset": offset, "shared_memory_byte_size": size}
    return {"name": name, "parameters": parameters} | members


def request(*, out_size=16, **source):
    given = tensor("INPUT0", IN, datatype="FP32", shape=[4]) | source
    return {"inputs": [given], "outputs": [tensor("OUTPUT0", OUT, out_size)]}


async def test_a_tensor_goes_in_and_comes_out_by_memory(client, shared):
    """The response names the output and holds no data; the object does."""
    key, view = shared
    assert (await register(client, key)).status_code == 200
    view[IN : IN + 16] = np.arange(4, dtype="<f4").tobytes()
    answer = await client.post("/v2/models/identity_fp32/infer", json=request())
    assert answer.json()["outputs"] == [{"name": "OUTPUT0", "datatype": "FP32", "shape": [4]}]
    assert np.frombuffer(view[OUT : OUT + 16], "<f4").tolist() == [0, 1, 2, 3]


async def test_a_region_begins_at_its_offset(client, shared):
    """Offsets of tensors count from there."""
    key, view = shared
    await register(client, key, offset=PAGE)
    view[PAGE : PAGE + 16] = np.full(4, 7, "<f4").tobytes()
    await client.post("/v2/models/identity_fp32/infer", json=request())
    assert np.frombuffer(view[PAGE + OUT : PAGE + OUT + 16], "<f4").tolist() == [7] * 4


async def test_memory_and_json_mix(client, shared):
    """One input by memory, one in the JSON; an output that is not named by memory comes in the JSON."""
    key, view = shared
    await register(client, key)
    view[IN : IN + 16] = np.full(4, 5, "<f4").tobytes()
    both = [
        tensor("INPUT0", IN, datatype="FP32", shape=[4]),
        {"name": "INPUT1", "datatype": "FP32", "shape": [4], "data": [1, 1, 1, 1]},
    ]
    outputs = [tensor("OUTPUT0", OUT), {"name": "OUTPUT1"}]
    answer = await client.post("/v2/models/add_sub/infer", json={"inputs": both, "outputs": outputs})
    assert np.frombuffer(view[OUT : OUT + 16], "<f4").tolist() == [6] * 4
    assert answer.json()["outputs"][1]["data"] == [4, 4, 4, 4]


async def test_the_status_names_what_is_registered(client, shared):
    """All regions, and one; after unregistering, none."""
    key, _ = shared
    await register(client, key)
    row = {"name": "r", "key": key, "offset": 0, "byte_size": PAGE}
    for path in ("status", "region/r/status"):
        assert (await client.get(f"/v2/systemsharedmemory/{path}")).json() == [row]
    await client.post("/v2/systemsharedmemory/region/r/unregister")
    assert (await client.get("/v2/systemsharedmemory/status")).json() == []


@pytest.mark.parametrize(
    ("document", "status", "words"),
    [
        (
            request(out_size=8),
            500,
            (
                "shared memory size specified with the request for output 'OUTPUT0' (8 bytes) should be at least "
                "16 bytes to hold the results"
            ),
        ),
        (request(**tensor("INPUT0", PAGE)), 400, "Invalid offset for shared memory region: 'r'"),
        (request(**tensor("INPUT0", 8, PAGE)), 400, "Invalid offset + byte size for shared memory region: 'r'"),
        (
            request(**tensor("INPUT0", 0, 12)),
            400,
            (
                "[request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model 'identity_fp32'. "
                "Expected 16, got 12"
            ),
        ),
        (
            request(parameters={"shared_memory_region": 5}),
            500,
            "Unable to parse 'shared_memory_region': attempt to access JSON non-string as string",
        ),
        (
            request(parameters={"shared_memory_region": "r", "shared_memory_offset": -1}),
            500,
            "Unable to parse 'shared_memory_offset': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
    ],
    ids=["output too large", "offset", "size", "wrong size", "no name", "negative"],
)
async def test_what_does_not_fit_is_refused(client, shared, document, status, words):
    """In Triton's words, and nothing is written."""
    key, view = shared
    await register(client, key)
    answer = await client.post("/v2/models/identity_fp32/infer", json=document)
    assert (answer.status_code, answer.json()["error"]) == (status, words)
    assert view[OUT : OUT + 16] == bytes(16)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("register", {}, 400, "'region name' is necessary to register system shared memory region"),
        ("region/r/register", {}, 400, "Shared memory register request has no 'key' field"),
        ("region/r/register", {"key": "/k"}, 400, "Shared memory register request has no 'byte_size' field"),
        ("region/r/register", {"key": 5, "byte_size": 8}, 500, "attempt to access JSON non-string as string"),
        (
            "region/r/register",
            {"key": "/k", "byte_size": "8"},
            500,
            "attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
    ],
)
async def test_what_cannot_be_registered_is_refused(client, path, body, status, words):
    """Member by member, in Triton's order."""
    answer = await client.post(f"/v2/systemsharedmemory/{path}", json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, words)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 400, "Shared memory register request has no 'raw_handle' field"),
        ({"raw_handle": {}}, 500, "attempt to access non-existing object member 'b64'"),
        (
            {"raw_handle": {"b64": "AAAA"}, "byte_size": 8, "device_id": 0},
            400,
            "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t",
        ),
        (
            {"raw_handle": {"b64": base64.b64encode(bytes(64)).decode()}, "byte_size": 8, "device_id": 0},
            400,
            "failed to register CUDA shared memory region: 'c', GPUs not supported",
        ),
    ],
)
async def test_cuda_memory_is_refused(client, body, status, words):
    """As by a Triton that was built without GPU support."""
    answer = await client.post("/v2/cudasharedmemory/region/c/register", json=body)
    assert (answer.status_code, answer.json()["error"]) == (status, words)


async def test_a_server_may_keep_its_memory_to_itself(port):
    """The default: the status is empty, all else 501."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/v2", timeout=60, verify=False) as client:
        assert (await client.get("/systemsharedmemory/status")).json() == []
        for path in ("systemsharedmemory/region/r/register", "cudasharedmemory/unregister"):
            answer = await client.post(f"/{path}", json={})
            assert (answer.status_code, "Client shared memory is disabled" in answer.json()["error"]) == (501, True)
