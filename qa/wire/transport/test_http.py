"""HTTP/1.1 by raw sockets: framing, order, and bodies of every kind and size."""

import asyncio
import socket

import pytest
from qa.wire.transport.http_requests import GET, OK, echo, post, until

from tritium.wire.http import Response


async def describe(request):
    return Response(200, (), (f"{request.method} {request.path} ? {request.query}".encode(),))


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
    await bounded(until(lambda: started))
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


async def test_nagle_is_off(wire):
    """Small writes leave at once, and the kernel asks after clients that vanish."""
    listener = await wire.http(echo)
    await wire.peer(listener)
    sock = (await _accepted(listener))._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


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


async def _accepted(listener):
    await until(lambda: listener._roster._connections)
    return next(iter(listener._roster._connections))
