"""What a real Triton answered over HTTP, asked of this server."""

import http.client

import pytest


@pytest.fixture(scope="session")
def connection(server):
    """One connection for all cases, as a client would keep it."""
    made = http.client.HTTPConnection("127.0.0.1", server.http, timeout=30)
    yield made
    made.close()


def test_http_case(connection, http_case, shared_memory):
    """Status, the headers that say what a body is, and the body to the byte."""
    assert http_case.ask(connection, shared_memory.encode()) == http_case.expected
