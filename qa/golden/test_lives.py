"""What a real Triton counted from its start, and what it loaded and unloaded when told to: servers of their own."""

import http.client
from contextlib import closing

import grpc


def test_life_case(servers, life_case, shared_memory):
    """The answer, after all that the cases before it have asked of the same server."""
    server = servers(life_case.server)
    if life_case.protocol == "grpc":
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
            assert life_case.ask(channel, shared_memory) == life_case.expected
    else:
        with closing(http.client.HTTPConnection("127.0.0.1", server.http, timeout=30)) as connection:
            assert life_case.ask(connection, shared_memory.encode()) == life_case.expected
