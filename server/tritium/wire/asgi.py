"""Runs an ASGI application (FastAPI and its kind) as a Handler: HTTP scopes, streams, disconnects, lifespan.

async with application(app) as handler:
    listener = await listen_http(handler, host="0.0.0.0", port=9000)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from tritium.wire.http import Handler, Headers, Request, Response, Stream

Event = MutableMapping[str, Any]
App = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Awaitable[None]]

_OURS = frozenset((b"content-length", b"transfer-encoding", b"connection", b"date"))


class LifespanError(Exception):
    """The application refused to start or to stop; the message is its own."""


@asynccontextmanager
async def application(app: App, *, secure: bool = False) -> AsyncIterator[Handler]:
    """Start the application, lend it as a handler, and stop it.

    Raises:
        LifespanError: Its startup or shutdown failed.
    """
    lifespan = _Lifespan(app)
    await lifespan.startup()
    try:
        yield asgi_handler(app, secure=secure)
    finally:
        await lifespan.shutdown()


def asgi_handler(app: App, *, secure: bool = False) -> Handler:
    """Make a handler of an application that needs no startup."""
    scheme = "https" if secure else "http"

    async def handle(request: Request) -> Response | None:
        exchange = _Exchange(request)
        await app(_scope(request, scheme), exchange.receive, exchange.send)
        return exchange.result()

    return handle


def _scope(request: Request, scheme: str) -> Event:
    host, _, port = request.peer.rpartition(":")
    return {
        "type": "http",
        # 2.3: frameworks then watch for the client's leaving while they stream, not only when they send.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme,
        "path": unquote(request.path),
        "raw_path": request.path.encode("latin-1"),
        "query_string": request.query.encode("latin-1"),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers],
        "client": (host, int(port)) if port.isdigit() else None,
        "server": None,
        "state": {},
    }


class _Exchange:
    """One request and its answer in the events of ASGI."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._body_taken = False
        self._left: asyncio.Event | None = None
        self._status = 0
        self._headers: Headers = ()
        self._parts: list[bytes] = []
        self._stream: Stream | None = None
        self._complete = False

    async def receive(self) -> Event:
        """Hand over the body, then wait until the client leaves or the answer is complete."""
        if not self._body_taken:
            self._body_taken = True
            return {"type": "http.request", "body": bytes(self._request.body), "more_body": False}
        if not self._complete:
            await self._gone().wait()
        return {"type": "http.disconnect"}

    def _gone(self) -> asyncio.Event:
        if self._left is None:
            self._left = asyncio.Event()
            self._request.on_disconnect(self._left.set)
        return self._left

    async def send(self, event: Event) -> None:
        """Take a part of the answer. One that comes whole leaves whole; otherwise it is a stream."""
        if event["type"] == "http.response.start":
            self._status = event["status"]
            headers = ((bytes(name).lower(), bytes(value)) for name, value in event.get("headers", ()))
            self._headers = tuple(header for header in headers if header[0] not in _OURS)
            return
        if event["type"] != "http.response.body" or not self._status or self._complete:
            raise RuntimeError(f"the application sent {event['type']} out of order")
        chunk, more = event.get("body", b""), event.get("more_body", False)
        if self._stream is None and more:
            self._stream = self._request.stream(self._status, self._headers)
        if self._stream is None:
            self._parts.append(chunk)
        elif more:
            self._stream.write(chunk)
            await self._stream.drain()
        else:
            self._stream.end(chunk)
        if not more:
            self._complete = True
            if self._left is not None:
                self._left.set()

    def result(self) -> Response | None:
        """Return what the handler owes the wire once the application has returned."""
        if self._stream is not None:
            if not self._complete:
                raise RuntimeError("the application returned in the middle of its answer")
            return None
        if self._complete:
            return Response(self._status, self._headers, self._parts)
        return None  # it sent nothing, and the wire says so


class _Lifespan:
    """The startup and shutdown of an application; one that does not know the protocol needs neither."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._outbox: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Start the application and wait until it is ready."""
        self._task = asyncio.create_task(self._run())
        await self._tell("lifespan.startup")

    async def shutdown(self) -> None:
        """Stop the application and wait until it has ended."""
        assert self._task is not None
        if not self._task.done():
            await self._tell("lifespan.shutdown")
            await self._task

    async def _run(self) -> None:
        scope: Event = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        await self._app(scope, self._inbox.get, self._outbox.put)

    async def _tell(self, event: str) -> None:
        assert self._task is not None
        self._inbox.put_nowait({"type": event})
        answer = asyncio.create_task(self._outbox.get())
        await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            if answer.result()["type"] == f"{event}.failed":
                await asyncio.wait((self._task,))
                cause = self._task.exception()
                raise LifespanError(answer.result().get("message") or f"{event} failed") from cause
            return
        answer.cancel()
        # ASGI: an application that raises on the scope itself does not support it.
        self._task.exception()
