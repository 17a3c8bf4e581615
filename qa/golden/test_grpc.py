"""What a real Triton answered over gRPC, asked of this server."""

import grpc
import pytest


@pytest.fixture(scope="session")
def channel(server):
    """One channel for all cases, as a client would keep it."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as made:
        yield made


def test_grpc_case(channel, grpc_case, shared_memory):
    """Status, message, and every response."""
    assert grpc_case.ask(channel, shared_memory) == grpc_case.expected
