"""HTTP/1.1 by raw sockets: framing, order, limits, and what happens when either side gives up."""

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from tritium.wire.http import HttpLimits, Response

OK = (b"content-type", b"text/plain")


async def echo(request):
    return Response(200, (OK,), (request.body,))


async def describe(request):
    return Response(200, (), (f"{request.method} {request.path} ? {request.query}".encode(),))


def post(body: bytes, path: str = "/", extra: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: h\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


async def test_connection_is_kept_alive(wire):
    """A connection carries one request after the other."""
    peer = await wire.peer(await wire.http(echo))
    for body in (b"one", b"", b"three"):
        await peer.send(post(body))
        answer = await peer.answer()
        assert (answer.status, answer.body) == (200, body)
        assert "connection" not in answer.headers
        assert "date" in answer.headers


async def test_pipelined_requests_are_answered_in_order(wire, bounded):
    """The second request waits for the answer to the first, even if it could be answered sooner."""
    release = asyncio.Event()
    started = []

    async def handler(request):
        started.append(request.path)
        if request.path == "/slow":
            await release.wait()
        return Response(200, (), (request.path.encode(), request.body))

    peer = await wire.peer(await wire.http(handler))
    await peer.send(post(b"1", "/slow") + post(b"2", "/fast") + post(b"3", "/last"))
    await bounded(_until(lambda: started))
    assert started == ["/slow"]
    release.set()
    assert [(await peer.answer()).body for _ in range(3)] == [b"/slow1", b"/fast2", b"/last3"]


async def test_a_thousand_pipelined_requests(wire):
    """A client may send many requests before it reads the first answer."""
    peer = await wire.peer(await wire.http(echo))
    sending = asyncio.create_task(peer.send(b"".join(post(b"%d" % number) for number in range(1000))))
    assert [(await peer.answer()).body for _ in range(1000)] == [b"%d" % number for number in range(1000)]
    await sending


async def test_upload_behind_a_pipelined_request(wire):
    """A body that comes in pieces behind another request reaches its own handler whole."""
    body = bytes(range(256)) * 4096
    peer = await wire.peer(await wire.http(echo))
    sending = asyncio.create_task(peer.send(post(b"first") + post(body) + post(b"last")))
    assert [(await peer.answer()).body for _ in range(3)] == [b"first", body, b"last"]
    await sending


@pytest.mark.parametrize("size", [1, 65_535, 65_536, 1 << 20, (64 << 20) - 3])
async def test_bodies_of_any_size_arrive_whole(wire, size):
    """A body is what was sent, be it one byte or 64 MiB; so is the answer."""
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    peer = await wire.peer(await wire.http(echo))
    sending = asyncio.create_task(peer.send(post(body)))
    assert (await peer.answer()).body == body
    await sending


async def test_byte_by_byte(wire):
    """How the bytes are cut into packets changes nothing."""
    peer = await wire.peer(await wire.http(echo))
    await peer.dribble(post(b"hello", "/x?y=z", "X-Long: " + "v" * 50 + "\r\n") * 2)
    assert [(await peer.answer()).body for _ in range(2)] == [b"hello", b"hello"]


async def test_chunked_request(wire):
    """Chunks are put together; extensions and trailers are ignored."""
    peer = await wire.peer(await wire.http(echo))
    head = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    await peer.send(head + b"5;ext=1\r\nhello\r\n6\r\n world\r\n")
    await peer.send(b"0\r\nX-Trailer: t\r\n\r\n" + post(b"next"))
    assert (await peer.answer()).body == b"hello world"
    assert (await peer.answer()).body == b"next"


async def test_continue_is_sent_when_asked_for(wire):
    """100 Continue comes before the body, the answer after it."""
    peer = await wire.peer(await wire.http(echo))
    await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    assert (await peer.answer()).status == 100
    await peer.send(b"body")
    assert (await peer.answer()).body == b"body"


async def test_continue_waits_for_the_answer_before_it(wire, bounded):
    """100 Continue must not come between a pipelined request and its answer."""
    release = asyncio.Event()
    started = asyncio.Event()

    async def handler(request):
        started.set()
        await release.wait()
        return await echo(request)

    peer = await wire.peer(await wire.http(handler))
    await peer.send(post(b"1") + b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
    await bounded(started.wait())
    release.set()
    assert (await peer.answer()).body == b"1"
    assert (await peer.answer()).status == 100
    await peer.send(b"2")
    assert (await peer.answer()).body == b"2"


async def test_continue_is_not_sent_for_a_body_that_is_too_large(wire):
    """A client that asks first is told 413 before it sends anything."""
    peer = await wire.peer(await wire.http(echo, HttpLimits(body_bytes=10)))
    await peer.send(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n")
    answer = await peer.answer()
    assert answer.status == 413
    assert answer.body == b'{"error": "the request body is larger than 10 bytes"}'
    assert await peer.closed()


async def test_head_has_no_body(wire):
    """HEAD is answered with the length GET would have, and nothing else."""

    async def handler(request):
        return Response(200, (OK,), (b"12345",))

    peer = await wire.peer(await wire.http(handler))
    await peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    assert (await peer.answer("HEAD")).headers["content-length"] == "5"
    assert (await peer.answer()).body == b"12345"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(wire, status):
    """Where HTTP allows no body none is sent, nor a header that announces one, though the handler may try."""

    async def handler(request):
        if request.path == "/whole":
            return Response(status, (), (b"not allowed",))
        stream = request.stream(status, ())
        stream.write(b"not allowed")
        stream.end(b"either")
        return None

    peer = await wire.peer(await wire.http(handler))
    for path in ("/whole", "/stream", "/whole"):
        await peer.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        answer = await peer.head()
        assert answer.status == status
        assert set(answer.headers) == {"date"}


async def test_path_is_passed_as_it_came(wire):
    """Nothing is percent-decoded; query and absolute form are taken apart."""
    peer = await wire.peer(await wire.http(describe))
    for target, seen in (
        ("/v2/models/a%2Fb%20c", "/v2/models/a%2Fb%20c ? "),
        ("/p?q=1?2%20", "/p ? q=1?2%20"),
        ("http://host:1/p/x?y", "/p/x ? y"),
        ("http://host", "/ ? "),
        ("*", "* ? "),
    ):
        method = "OPTIONS" if target == "*" else "GET"
        await peer.send(f"{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        assert (await peer.answer()).body.decode() == f"{method} {seen}"


async def test_headers_are_lower_case_and_the_first_wins(wire):
    """Handlers look headers up in one spelling."""

    async def handler(request):
        found = (request.header(b"x-one"), request.header(b"none"), request.header(b"none", b"default"))
        return Response(200, (), (b"|".join(found),))

    peer = await wire.peer(await wire.http(handler))
    await peer.send(b"GET / HTTP/1.1\r\nHost: h\r\nX-ONE: a\r\nx-one: b\r\n\r\n")
    assert (await peer.answer()).body == b"a||default"


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon here\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
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
    listener = await wire.http(echo, HttpLimits(idle_s=0.1))
    fresh = await wire.peer(listener)
    used = await wire.peer(listener)
    await used.send(GET)
    assert (await used.answer()).status == 200
    assert await used.closed()
    assert await fresh.closed()


async def test_idle_time_does_not_end_a_long_request(wire):
    """Limits are for clients; a handler may take its time."""

    async def handler(request):
        await asyncio.sleep(0.3)
        return Response(200, (), (b"done",))

    peer = await wire.peer(await wire.http(handler, HttpLimits(idle_s=0.1, header_s=0.1)))
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


async def test_handler_exception(wire):
    """An exception is answered 500 in JSON and logged; the connection goes on."""

    async def handler(request):
        if request.path == "/a":
            raise ValueError('bad "thing"')
        return Response(200)

    peer = await wire.peer(await wire.http(handler))
    with capture_logs() as logs:
        await peer.send(GET + b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        answer = await peer.answer()
        assert (await peer.answer()).status == 200
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == b'{"error": "unexpected ValueError: bad \\"thing\\""}'
    assert [(entry["event"], entry["path"]) for entry in logs] == [("http_handler_failed", "/a")]


@pytest.mark.parametrize(
    "headers", [((b"x", b"a\r\nset-cookie: b"),), ((b"x", b"a\nb"),), ((b"content-length", b"5"),)]
)
async def test_headers_that_would_break_the_framing(wire, headers):
    """A header a handler must not send is an error of the handler, not of the stream of bytes."""

    async def handler(request):
        return Response(200, headers)

    peer = await wire.peer(await wire.http(handler))
    with capture_logs():
        await peer.send(GET)
        assert (await peer.answer()).status == 500


async def test_cancelled_future_is_an_error_of_the_handler(wire):
    """Something a handler waits for may be cancelled; the request is answered 500, and the connection goes on."""

    async def handler(request):
        if request.path == "/a":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        return Response(200)

    peer = await wire.peer(await wire.http(handler))
    with capture_logs() as logs:
        await peer.send(GET + b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        assert [(await peer.answer()).status for _ in range(2)] == [500, 200]
    assert [entry["event"] for entry in logs] == ["http_handler_failed"]


@pytest.mark.parametrize("kind", ["whole", "large", "stream", "error"])
async def test_answer_to_a_client_that_left_is_dropped(wire, bounded, kind):
    """A handler that finishes after its client has gone is no error of anybody's."""
    started, left, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def handler(request):
        request.on_disconnect(left.set)
        started.set()
        await left.wait()
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().call_soon, finished.set)
        match kind:
            case "whole":
                return Response(200, (), (b"x",))
            case "large":
                return Response(200, (), (bytes(1 << 20),))
            case "stream":
                request.stream(200, ()).end(b"x")
                return None
        raise RuntimeError("too late to matter")

    listener = await wire.http(handler)
    peer = await wire.peer(listener)
    with capture_logs() as logs:
        await peer.send(GET)
        await bounded(started.wait())
        peer.leave()
        await bounded(finished.wait())
        await bounded(listener.close(5))
    assert complaints == []
    assert [entry["event"] for entry in logs] == (["http_handler_failed"] if kind == "error" else [])


async def test_handler_that_answers_nothing(wire):
    """None without a stream is a bug of the handler, and the client is told."""

    async def handler(request):
        return None

    peer = await wire.peer(await wire.http(handler))
    with capture_logs():
        await peer.send(GET)
        assert (await peer.answer()).status == 500


async def test_stream(wire):
    """Chunks leave as they are written, and the connection goes on afterwards."""

    async def handler(request):
        stream = request.stream(201, (OK,))
        for chunk in (b"one", memoryview(b"two"), bytearray(b"three")):
            stream.write(chunk)
        await stream.drain()
        stream.end(b"last")
        stream.end()
        stream.write(b"too late")
        assert stream.closed

    peer = await wire.peer(await wire.http(handler))
    for _ in range(2):
        await peer.send(GET)
        answer = await peer.answer()
        assert (answer.status, answer.headers["content-type"]) == (201, "text/plain")
        assert answer.chunks == [b"one", b"two", b"three", b"last"]


async def test_head_leaves_with_the_first_chunk(wire):
    """The head waits for the first chunk: one packet, not two."""
    ready = asyncio.Event()

    async def handler(request):
        stream = request.stream(200, ())
        ready.set()
        await asyncio.sleep(0.05)
        stream.write(b"first")
        await asyncio.sleep(0.05)
        stream.end()

    peer = await wire.peer(await wire.http(handler))
    await peer.send(GET)
    first = await peer.read()
    assert first.startswith(b"HTTP/1.1 200 OK\r\n")
    assert first.endswith(b"\r\n\r\n5\r\nfirst\r\n")


async def test_stream_that_fails_midway(wire):
    """A stream cut short by an exception ends without its last chunk, so that the client can tell."""

    async def handler(request):
        stream = request.stream(200, ())
        stream.write(b"begin")
        await asyncio.sleep(0)
        raise RuntimeError("lost")

    peer = await wire.peer(await wire.http(handler))
    with capture_logs() as logs:
        await peer.send(GET)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await peer.answer()
    assert [entry["event"] for entry in logs] == ["http_handler_failed"]


async def test_stream_that_fails_before_its_head(wire):
    """As long as nothing has left, a failing stream is a plain 500."""

    async def handler(request):
        request.stream(200, ())
        raise RuntimeError("early")

    peer = await wire.peer(await wire.http(handler))
    with capture_logs():
        await peer.send(GET)
        assert (await peer.answer()).status == 500


async def test_drain_waits_for_a_slow_reader(wire, bounded):
    """A handler that drains keeps little in memory, and goes on when the client reads."""
    written = 0
    total = 16 << 20

    async def handler(request):
        nonlocal written
        stream = request.stream(200, ())
        while written < total:
            stream.write(bytes(1 << 16))
            written += 1 << 16
            await stream.drain()
        stream.end()

    peer = await wire.peer(await wire.http(handler), receive_bytes=16 << 10)
    await peer.send(GET)
    await bounded(_settled(lambda: written))
    assert written < total
    assert len((await peer.answer()).body) == total


async def test_disconnect_is_reported(wire, bounded):
    """A client that leaves while its handler works is reported once; later writes do nothing."""
    left = asyncio.Event()
    calls = []
    started = asyncio.Event()
    finished = asyncio.Event()

    async def handler(request):
        stream = request.stream(200, ())
        stream.write(b"x")
        request.on_disconnect(lambda: calls.append("left"))
        request.on_disconnect(left.set)
        started.set()
        await left.wait()
        assert stream.closed
        stream.write(b"y")
        await stream.drain()
        stream.end()
        request.on_disconnect(lambda: calls.append("late"))
        finished.set()

    peer = await wire.peer(await wire.http(handler))
    await peer.send(GET)
    await bounded(started.wait())
    peer.leave()
    await bounded(finished.wait())
    assert calls == ["left"]


async def test_no_disconnect_after_the_answer(wire, bounded):
    """Closing a connection whose request was answered is no disconnect."""
    calls = []

    async def handler(request):
        request.on_disconnect(lambda: calls.append("left"))
        return Response(200)

    listener = await wire.http(handler)
    peer = await wire.peer(listener)
    await peer.send(GET)
    await peer.answer()
    peer.leave()
    await bounded(listener.close(5))
    assert calls == []


async def test_half_closed_client_is_answered(wire):
    """A client may shut its sending side down and still read the answer."""
    started = asyncio.Event()

    async def handler(request):
        started.set()
        await asyncio.sleep(0.05)
        return Response(200, (), (b"answer",))

    peer = await wire.peer(await wire.http(handler))
    await peer.send(GET)
    peer.writer.write_eof()
    answer = await peer.answer()
    assert answer.body == b"answer"
    assert await peer.closed()


async def test_connection_close_is_obeyed(wire):
    """Connection: close ends the connection after the answer."""
    peer = await wire.peer(await wire.http(echo))
    await peer.send(post(b"x", extra="Connection: close\r\n"))
    assert (await peer.answer()).headers["connection"] == "close"
    assert await peer.closed()


async def test_http_1_0(wire):
    """HTTP/1.0 closes unless it asks not to, and its streams are not chunked."""

    async def handler(request):
        if request.path == "/stream":
            stream = request.stream(200, ())
            stream.write(b"a")
            stream.end(b"b")
            return None
        return Response(200, (), (b"x",))

    listener = await wire.http(handler)
    peer = await wire.peer(listener)
    await peer.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await peer.answer()).headers["connection"] == "keep-alive"
    await peer.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    answer = await peer.answer()
    assert answer.body == b"ab"
    assert "transfer-encoding" not in answer.headers
    peer = await wire.peer(listener)
    await peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await peer.answer()).body == b"x"
    assert await peer.closed()


async def test_offer_to_upgrade_is_ignored(wire):
    """h2c and websocket offers are answered over HTTP/1.1, and what follows is read as HTTP."""
    peer = await wire.peer(await wire.http(echo))
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    await peer.send(post(b"one", extra=offer) + post(b"two"))
    assert [(await peer.answer()).body for _ in range(2)] == [b"one", b"two"]


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


async def test_nagle_is_off(wire):
    """Small writes leave at once, and the kernel asks after clients that vanish."""
    listener = await wire.http(echo)
    await wire.peer(listener)
    sock = (await _accepted(listener))._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_close_lets_requests_finish(wire, bounded):
    """Closing refuses new connections, closes idle ones, and waits for what is under way."""
    release = asyncio.Event()
    started = asyncio.Event()

    async def handler(request):
        started.set()
        await release.wait()
        return Response(200, (), (b"in time",))

    listener = await wire.http(handler)
    busy, idle = await wire.peer(listener), await wire.peer(listener)
    await busy.send(GET)
    await bounded(started.wait())
    closing = asyncio.create_task(listener.close(5))
    assert await idle.closed()
    with pytest.raises(OSError, match=r"refused|reset|Connect"):
        await wire.peer(listener)
    release.set()
    answer = await busy.answer()
    assert (answer.body, answer.headers["connection"]) == (b"in time", "close")
    await bounded(closing)


async def test_close_ends_what_does_not_finish(wire, bounded):
    """After the grace the connection is dropped and the handler cancelled."""
    started = asyncio.Event()
    ended = []

    async def handler(request):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    listener = await wire.http(handler)
    peer = await wire.peer(listener)
    await peer.send(GET)
    await bounded(started.wait())
    await bounded(listener.close(0.05))
    assert ended == ["cancelled"]
    assert await peer.closed()


async def test_close_waits_for_a_handler_whose_client_left(wire, bounded):
    """Work goes on although nobody reads it; closing does not forget it."""
    started, release = asyncio.Event(), asyncio.Event()
    ended = []

    async def handler(request):
        started.set()
        await release.wait()
        ended.append("done")
        return Response(200)

    listener = await wire.http(handler)
    peer = await wire.peer(listener)
    await peer.send(GET)
    await bounded(started.wait())
    peer.leave()
    closing = asyncio.create_task(listener.close(5))
    await asyncio.sleep(0)
    release.set()
    await bounded(closing)
    assert ended == ["done"]


async def test_two_hundred_connections(wire, bounded):
    """Connections do not disturb each other, although they share the memory they are read into."""
    listener = await wire.http(echo)
    peers = [await wire.peer(listener) for _ in range(200)]

    async def converse(number: int) -> None:
        for turn in range(5):
            body = b"%d-%d" % (number, turn) * 100
            data = post(body)
            await peers[number].send(data[:50])
            await asyncio.sleep(0)
            await peers[number].send(data[50:])
            assert (await peers[number].answer()).body == body

    await bounded(asyncio.gather(*map(converse, range(200))))


async def _until(condition) -> None:
    while not condition():  # noqa: ASYNC110  # what it watches knows nothing of events
        await asyncio.sleep(0.001)


async def _settled(value) -> None:
    """Wait until a number has grown and then stands still."""
    last, still = 0, 0
    while still < 20:
        await asyncio.sleep(0.005)
        still = still + 1 if value() == last and last else 0
        last = value()


async def _accepted(listener):
    await _until(lambda: listener._roster._connections)
    return next(iter(listener._roster._connections))
