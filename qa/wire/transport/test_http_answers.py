"""Answers over HTTP: errors, streams, clients that leave, and listeners that close."""

import asyncio
import weakref

import pytest
from qa.wire.transport.http_requests import GET, OK, settled
from structlog.testing import capture_logs

from tritium.wire.http import Response


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
    """What is written in one turn of the loop leaves as one chunk, and the connection goes on afterwards."""

    async def handler(request):
        stream = request.stream(201, (OK,))
        for turn in ((b"one", memoryview(b"two")), (bytearray(b"three"),)):
            for chunk in turn:
                stream.write(chunk)
            await asyncio.sleep(0.02)
        stream.write(b"the very ")
        stream.end(b"last")
        stream.end()
        stream.write(b"too late")
        assert stream.closed

    peer = await wire.peer(await wire.http(handler))
    for _ in range(2):
        await peer.send(GET)
        answer = await peer.answer()
        assert (answer.status, answer.headers["content-type"]) == (201, "text/plain")
        assert answer.chunks == [b"onetwo", b"three", b"the very last"]


async def test_stream_to_a_client_that_left(wire):
    """Nothing is kept of what is written to nobody."""
    left, kept = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def handler(request):
        request.on_disconnect(left.set)
        stream = request.stream(200, ())
        stream.write(b"first")
        await left.wait()
        chunk = memoryview(b"to nobody")
        trace = weakref.ref(chunk)
        stream.write(chunk)
        del chunk
        kept.set_result(trace() is not None)

    peer = await wire.peer(await wire.http(handler))
    await peer.send(GET)
    await peer.read()
    peer.writer.close()
    assert not await asyncio.wait_for(kept, 60)


async def test_head_leaves_with_the_first_chunk(wire):
    """The head waits for the first chunk: one packet, not two."""
    read = asyncio.Event()

    async def handler(request):
        stream = request.stream(200, ())
        await asyncio.sleep(0.05)  # in which nothing may leave
        stream.write(b"first")
        await read.wait()
        stream.end()

    peer = await wire.peer(await wire.http(handler))
    await peer.send(GET)
    first = await peer.read()
    read.set()
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
    await bounded(settled(lambda: written))
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


async def test_stream_of_a_client_that_half_closed_ends_with_its_handler(wire, bounded):
    """A handler that returns because nobody reads any more has ended its stream: the connection is closed."""
    seen = asyncio.Event()

    async def handler(request):
        request.on_disconnect(seen.set)
        await bounded(seen.wait())
        stream = request.stream(200, (OK,))
        stream.write(b"nobody reads this")
        assert stream.closed

    peer = await wire.peer(await wire.http(handler))
    await peer.send(GET)
    peer.writer.write_eof()
    assert await peer.closed()
