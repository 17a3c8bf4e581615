"""What the tests of HTTP ask, and how they wait."""

import asyncio

from tritium.wire.http import Response

OK = (b"content-type", b"text/plain")


async def echo(request):
    return Response(200, (OK,), (request.body,))


def post(body: bytes, path: str = "/", extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: h\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


async def until(condition) -> None:
    while not condition():  # noqa: ASYNC110  # what it watches knows nothing of events
        await asyncio.sleep(0.001)


async def settled(value) -> None:
    """Wait until a number has grown and then stands still."""
    last, still = 0, 0
    while still < 20:
        await asyncio.sleep(0.005)
        still = still + 1 if value() == last and last else 0
        last = value()
