"""What a real Triton answered over gRPC, asked of this server."""

import os
import re
import struct
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from tritonclient.grpc import service_pb2_grpc

COMPRESSION = {"": None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
KEY = "/golden_shm"
"""The key of the clients' shared memory in the cases; each run has its own object behind it."""
FILES = re.compile(r"/[\w./-]+\.py\(\d+\)")


@pytest.fixture(scope="session")
def shared_memory():
    """Four numbers, four ones, and room for two answers, as the recorder had them."""
    key = f"{KEY}_{os.getpid()}"
    path = Path("/dev/shm") / key[1:]
    path.write_bytes(struct.pack("<8f", 1, 2, 3, 4, 1, 1, 1, 1) + bytes(32))
    yield key
    path.unlink()


@pytest.fixture(scope="session")
def stub(server):
    """One channel for all cases, as a client would keep it."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_grpc_case(stub, grpc_case, shared_memory):
    """Status, message, and every response."""
    for request in grpc_case.requests:
        if getattr(request, "key", "") == KEY:
            request.key = shared_memory
    status, message, responses = ask(stub, grpc_case)
    for region in (each for response in responses for each in getattr(response, "regions", {}).values()):
        region.key = KEY
    assert (status, FILES.sub("<path>", message)) == (grpc_case.status, grpc_case.message)
    assert list(map(comparable, responses)) == list(map(comparable, grpc_case.responses))


def ask(stub, case):
    """Make the call; return status, message and responses."""
    method = getattr(stub, case.method)
    responses = []
    try:
        if case.method == "ModelStreamInfer":
            responses.extend(method(iter(case.requests), timeout=15))
        else:
            compression = COMPRESSION[case.compression]
            responses.append(method(case.requests[0], timeout=15, compression=compression))
    except grpc.RpcError as error:
        return error.code().name, error.details(), responses
    return "OK", "", responses


def comparable(response):
    """Hide what differs by machine: the paths of model files."""
    return FILES.sub("<path>", text_format.MessageToString(response, as_utf8=True))
