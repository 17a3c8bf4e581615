"""ASGI applications on our HTTP: FastAPI as people write it, and the protocol's corners."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from structlog.testing import capture_logs

from tritium.wire.asgi import LifespanError, application, asgi_handler


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()


async def test_fastapi(wire):
    """Routes, JSON bodies, query strings, status codes and generated pages work as on any server."""
    app = FastAPI()

    @app.post("/add/{name}")
    async def add(name: str, numbers: list[int], request: Request, scale: int = 1):
        return {"name": name, "sum": sum(numbers) * scale, "client": request.client.host}

    peer = await wire.peer(await wire.http(asgi_handler(app)))
    body = b"[1, 2, 3]"
    head = (
        f"POST /add/a%20b?scale=2 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    await peer.send(head.encode() + b"\r\n\r\n" + body + get("/openapi.json") + get("/nope"))
    answer = await peer.answer()
    assert (answer.status, answer.body) == (200, b'{"name":"a b","sum":12,"client":"127.0.0.1"}')
    assert answer.headers["content-type"] == "application/json"
    assert b'"/add/{name}"' in (await peer.answer()).body
    assert (await peer.answer()).status == 404


async def test_stream(wire, bounded):
    """Chunks of a StreamingResponse leave one by one."""
    app = FastAPI()
    proceed = asyncio.Event()

    @app.get("/stream")
    async def stream():
        async def chunks():
            yield b"first"
            await proceed.wait()
            yield b"second"

        return StreamingResponse(chunks(), media_type="text/event-stream")

    peer = await wire.peer(await wire.http(asgi_handler(app)))
    await peer.send(get("/stream"))
    head = await peer.head()
    assert head.headers["content-type"].startswith("text/event-stream")
    assert await peer.chunk() == b"first"
    proceed.set()
    assert await peer.chunk() == b"second"
    assert await peer.chunk() == b""


async def test_disconnect_stops_a_stream(wire, bounded):
    """A client that leaves ends the generator behind its stream, even while that waits for its next item."""
    app = FastAPI()
    stopped = asyncio.Event()

    @app.get("/stream")
    async def stream():
        async def chunks():
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                stopped.set()

        return StreamingResponse(chunks())

    peer = await wire.peer(await wire.http(asgi_handler(app)))
    await peer.send(get("/stream"))
    await peer.head()
    peer.leave()
    await bounded(stopped.wait())


async def test_lifespan(wire):
    """Startup runs before the first request and shutdown after the last."""
    events = []

    @asynccontextmanager
    async def lifespan(app):
        events.append("startup")
        yield
        events.append("shutdown")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def root():
        return list(events)

    async with application(app) as handler:
        peer = await wire.peer(await wire.http(handler))
        await peer.send(get("/"))
        assert (await peer.answer()).body == b'["startup"]'
    assert events == ["startup", "shutdown"]


async def test_failing_startup():
    """An application that cannot start says why."""

    @asynccontextmanager
    async def lifespan(app):
        raise RuntimeError("no database")
        yield

    with pytest.raises(LifespanError, match="no database"):
        async with application(FastAPI(lifespan=lifespan)):
            pass


async def test_application_without_lifespan(wire):
    """A bare application that knows HTTP only is served as well."""

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        assert (await receive())["body"] == b""
        await send({"type": "http.response.start", "status": 203, "headers": [(b"Content-Length", b"2"), (b"X", b"y")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with application(app) as handler:
        peer = await wire.peer(await wire.http(handler))
        await peer.send(get("/%41?%41"))
        answer = await peer.answer()
    assert (answer.status, answer.body, answer.headers["x"]) == (203, b"ok", "y")


async def test_scope(wire):
    """The scope has the path decoded and raw, as ASGI wants it."""
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    peer = await wire.peer(await wire.http(asgi_handler(app)))
    await peer.send(get("/a%2Fb%20c?q=%20"))
    await peer.answer()
    scope = scopes[0]
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a/b c", b"/a%2Fb%20c", b"q=%20")
    assert (scope["method"], scope["scheme"], scope["client"][0]) == ("GET", "http", "127.0.0.1")
    assert (b"host", b"h") in scope["headers"]


@pytest.mark.parametrize("events", [[], ["start"], ["body"], ["start", "part"]])
async def test_application_that_breaks_the_protocol(wire, events):
    """An application that does not answer properly is an error that the client sees."""

    async def app(scope, receive, send):
        for event in events:
            if event == "start":
                await send({"type": "http.response.start", "status": 200})
            else:
                await send({"type": "http.response.body", "body": b"x", "more_body": event == "part"})

    peer = await wire.peer(await wire.http(asgi_handler(app)))
    with capture_logs() as logs:
        await peer.send(get("/"))
        if "part" in events:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await peer.answer()
        else:
            assert (await peer.answer()).status == 500
    assert [entry["event"] for entry in logs] == ["http_handler_failed"]
