"""What an HTTP client may not do, and what it is told."""

import asyncio

import pytest
from qa.wire.transport.http_requests import GET, echo, post

from tritium.wire.http import HttpLimits, Response


async def test_continue_is_not_sent_for_a_body_that_is_too_large(wire):
    """A client that asks first is told 413 before it sends anything."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(body_bytes=10)))
    await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
    answer = await peer.answer()
    assert answer.status == 413
    assert answer.body == b'{"error": "the request body is larger than 10 bytes"}'
    assert await peer.closed()


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
    ],
)
async def test_malformed_requests(wire, junk):
    """What is not HTTP is answered 400 in JSON, and the connection ends."""
    peer = await wire.peer(await wire.http(echo))
    await peer.send(junk)
    answer = await peer.answer()
    assert answer.status == 400
    assert answer.body.startswith(b'{"error": "malformed HTTP request: ')
    assert answer.headers["connection"] == "close"
    assert await peer.closed()


async def test_malformed_behind_a_good_request(wire):
    """A good request is answered before the broken one behind it."""
    peer = await wire.peer(await wire.http(echo))
    await peer.send(post(b"good") + b"\x00\x01broken\r\n\r\n")
    assert (await peer.answer()).body == b"good"
    assert (await peer.answer()).status == 400
    assert await peer.closed()


async def test_body_limit(wire):
    """One byte more than allowed is 413, however it is framed; the last allowed byte is not."""
    listener = await wire.http(echo, HttpLimits(body_bytes=100_000))
    peer = await wire.peer(listener)
    await peer.send(post(b"x" * 100_000))
    assert (await peer.answer()).status == 200
    await peer.send(post(b"x" * 100_001)[:200])
    assert (await peer.answer()).status == 413
    assert await peer.closed()
    peer = await wire.peer(listener)
    await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    await peer.send(b"C351\r\n" + b"x" * 50_001 + b"\r\nC350\r\n" + b"x" * 50_000)
    assert (await peer.answer()).status == 413
    small = await wire.peer(await wire.http(echo, HttpLimits(body_bytes=3)))
    await small.send(post(b"four"))
    assert (await small.answer()).status == 413
    await small.closed()


async def test_answer_to_a_refused_upload_arrives(wire):
    """A client in the middle of sending still gets to read why it was refused."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(body_bytes=1000)))
    sending = asyncio.create_task(peer.send(post(bytes(4 << 20))))
    assert (await peer.answer()).status == 413
    peer.leave()
    await asyncio.gather(sending, return_exceptions=True)


async def test_absurd_content_length_without_a_limit(wire):
    """A length no machine can hold is refused, not believed."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(body_bytes=0)))
    await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9007199254740992\r\n\r\n")
    assert (await peer.answer()).status == 413


async def test_header_limit(wire):
    """A head that does not end is cut off at the limit."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(header_bytes=8000)))
    await peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n")
    while not peer.reader._buffer:
        await peer.send(b"X-Filler: " + b"f" * 1000 + b"\r\n")
        await asyncio.sleep(0)
    assert (await peer.answer()).status == 431
    await peer.closed()


async def test_slow_head(wire):
    """A head that dribbles in for too long is answered 408."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(header_s=0.1)))
    await peer.send(b"GET / HTTP/1.1\r\nHost:")
    assert (await peer.answer()).status == 408
    assert await peer.closed()


async def test_slow_body(wire):
    """A body that comes too slowly is answered 408."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(header_s=0.1)))
    await peer.send(post(b"x" * 100)[:-50])
    assert (await peer.answer()).status == 408
    assert await peer.closed()


async def test_idle_connection_is_closed(wire):
    """A connection without a request is closed after the idle time, also a fresh one."""
    listener = await wire.http(echo, HttpLimits(idle_s=0.5))
    fresh = await wire.peer(listener)
    used = await wire.peer(listener)
    await used.send(GET)
    assert (await used.answer()).status == 200
    assert await used.closed()
    assert await fresh.closed()


async def test_idle_time_does_not_end_a_long_request(wire):
    """Limits are for clients; a handler may take its time."""

    async def handler(request):
        await asyncio.sleep(1)
        return Response(200, (), (b"done",))

    peer = await wire.peer(await wire.http(handler, HttpLimits(idle_s=0.5, header_s=0.5)))
    await peer.send(GET)
    assert (await peer.answer()).body == b"done"


async def test_client_that_does_not_read_is_dropped(wire, bounded):
    """An answer nobody takes does not stay in memory for ever."""
    gone = asyncio.Event()

    async def handler(request):
        stream = request.stream(200, ())
        request.on_disconnect(gone.set)
        while not stream.closed:
            stream.write(bytes(1 << 16))
            await stream.drain()

    peer = await wire.peer(await wire.http(handler, HttpLimits(idle_s=0.2)), receive_bytes=4096)
    await peer.send(GET)
    await bounded(gone.wait())


async def test_connection_limit(wire):
    """One connection too many is told so; when one leaves, there is room again."""
    listener = await wire.http(echo, HttpLimits(connections=1))
    first = await wire.peer(listener)
    await first.send(GET)
    assert (await first.answer()).status == 200
    second = await wire.peer(listener)
    assert (await second.answer()).status == 503
    assert await second.closed()
    await first.send(GET)
    assert (await first.answer()).status == 200
