"""What a real Triton answered over gRPC, asked of this server."""

import re

import grpc
import pytest
from google.protobuf import text_format
from tritonclient.grpc import service_pb2_grpc

COMPRESSION = {"": None, "gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
FILES = re.compile(r"/[\w./-]+\.py\(\d+\)")


@pytest.fixture(scope="session")
def stub(server):
    """One channel for all cases, as a client would keep it."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def test_grpc_case(stub, grpc_case):
    """Status, message, and every response."""
    status, message, responses = ask(stub, grpc_case)
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
