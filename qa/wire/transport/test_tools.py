"""The command line tools that people reach for first, where they are installed."""

import asyncio
import json
import re
import shutil

import pytest

from tritium.wire.grpc import Methods
from tritium.wire.http import Response

BOUND_S = 60.0


async def echo_http(request):
    return Response(200, (), (request.body,))


async def echo(message, call):
    return bytes(message)


@pytest.fixture
def tool():
    """Run a program and return its output; the test is skipped, with its name, where it is missing."""

    async def run(name: str, *arguments: object) -> bytes:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        process = await asyncio.create_subprocess_exec(
            path, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await asyncio.wait_for(process.communicate(), BOUND_S)
        assert process.returncode == 0, errors
        return output

    return run


async def test_curl_uploads(wire, tool, tmp_path):
    """A large file by length (curl then asks with Expect), in chunks, and with an offer of HTTP/2 that is declined."""
    listener = await wire.http(echo_http)
    url = f"http://127.0.0.1:{listener.port}/"
    body = bytes(range(256)) * 12_000
    file = tmp_path / "body"
    file.write_bytes(body)
    for options in (
        ("--http1.1", "--data-binary", f"@{file}"),
        ("--http1.1", "-H", "Expect: 100-continue", "--data-binary", f"@{file}"),
        ("--http1.1", "-H", "Transfer-Encoding: chunked", "-T", file),
        ("--http1.0", "--data-binary", f"@{file}"),
        ("--http2", "--data-binary", f"@{file}"),
    ):
        assert await tool("curl", "-sS", *options, url) == body


async def test_curl_reuses_its_connection(wire, tool):
    """Two requests of one command share a connection; HEAD has no body."""
    listener = await wire.http(echo_http)
    url = f"http://127.0.0.1:{listener.port}/"
    output = await tool("curl", "-sS", "--http1.1", "-w", "%{num_connects} ", "-d", "x", url, url)
    assert output == b"x1 x0 "
    assert (await tool("curl", "-sSI", "--http1.1", url)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_curl_calls_grpc(wire, tool, tmp_path):
    """curl speaks HTTP/2 to the gRPC port if told to; if not, it is told what is wrong."""
    listener = await wire.grpc(Methods({"/s/Echo": echo}))
    url = f"http://127.0.0.1:{listener.port}/s/Echo"
    file = tmp_path / "message"
    file.write_bytes(b"\0\0\0\0\5hello")
    grpc = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    output = await tool("curl", "-sS", "--http2-prior-knowledge", *grpc, "--data-binary", f"@{file}", url)
    assert output == b"\0\0\0\0\5hello"
    assert "gRPC" in json.loads(await tool("curl", "-sS", "--http1.1", url))["error"]


@pytest.mark.parametrize("streams", [1, 50])
async def test_h2load(wire, tool, tmp_path, streams):
    """nghttp2's load generator completes every call, one at a time and fifty at a time."""
    listener = await wire.grpc(Methods({"/s/Echo": echo}))
    file = tmp_path / "message"
    file.write_bytes(b"\0\0\0\0\5hello")
    grpc = ("-H", "content-type: application/grpc", "-H", "te: trailers", "-d", file)
    url = f"http://127.0.0.1:{listener.port}/s/Echo"
    output = await tool("h2load", "-n", 2000, "-c", 4, "-m", streams, *grpc, url)
    assert re.search(rb"2000 succeeded, 0 failed, 0 errored", output)
