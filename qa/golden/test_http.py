"""What a real Triton answered over HTTP, asked of this server."""

import gzip
import http.client
import re
import zlib

import pytest

PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}
FILES = re.compile(rb"/[\w./-]+\.py\(\d+\)")
HINT = re.compile(rb',"hint":"(?:[^"\\]|\\.)*"}$')


@pytest.fixture(scope="session")
def connection(server):
    """One connection for all cases, as a client would keep it."""
    made = http.client.HTTPConnection("127.0.0.1", server.http, timeout=30)
    yield made
    made.close()


def test_http_case(connection, http_case):
    """Status, the headers that say what a body is, and the body to the byte."""
    asked, expected = http_case.asked, http_case.answered
    method, path = asked.line.split(" ")
    pack = PACK.get(asked.headers.get("Content-Encoding"), bytes)
    connection.request(method, path, pack(asked.body), asked.headers)
    answer = connection.getresponse()
    body = UNPACK.get(answer.headers.get("Content-Encoding"), bytes)(answer.read())
    found = {name: answer.headers.get(name) for name in expected.headers}
    assert (answer.status, found) == (int(expected.line), expected.headers)
    assert comparable(body) == expected.body


def comparable(body):
    """Hide what differs by machine (the paths of model files) and what Triton lacks (hints, a line's end)."""
    return HINT.sub(b"}", FILES.sub(b"<path>", body)).rstrip(b"\n")
