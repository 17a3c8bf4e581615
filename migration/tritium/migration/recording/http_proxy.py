"""A proxy for HTTP that hands every byte on as it came and reads along.

    client --bytes--> proxy --the same bytes--> server     each connection of a client has one of its own to the server
                        |
                        +--a copy--> reader of requests, reader of answers --> the call that is kept

What is read along is kept up to a bound and never delays the bytes. When either side closes, so does the other: the
server hears that its client left.
"""

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools

from tritium.migration.comparing.call import Captured
from tritium.migration.recording.file import Recorded

_CHUNK = 256 << 10
_CONNECT_S = 10.0
_INFERENCE = re.compile(
    r"^/v2/models/(?P<model>[^/?]+)(?:/versions/[^/?]+)?/(?:infer|generate|generate_stream)(?:\?|$)"
)
_OPENAI = re.compile(r"^/v1/(?:chat/completions|completions|embeddings|responses|score|rerank)(?:\?|$)")
_REGION = re.compile(rb'"shared_memory_region"')

Keep = Callable[[Recorded], None]


@dataclass(slots=True)
class _Message:
    """One request or answer as far as it was read."""

    path: str = ""
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    cut: bool = False
    began: float = 0.0


class _Reader:
    """Reads one direction of a connection; `done` hears of each whole message."""

    def __init__(self, kind: type, most_bytes: int, done: Callable[[_Message], None]) -> None:
        self._most_bytes, self._done = most_bytes, done
        self._now = _Message()
        self._parser = kind(self)
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Read along; what is no HTTP/1 any more (an upgrade, say) is only handed on from then on."""
        if self._lost:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lost = True

    def on_message_begin(self) -> None:
        self._now = _Message(began=time.perf_counter())

    def on_url(self, url: bytes) -> None:
        self._now.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._now.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if isinstance(self._parser, httptools.HttpResponseParser):
            self._now.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if len(self._now.body) + len(body) <= self._most_bytes:
            self._now.body += body
        else:
            self._now.cut = True

    def on_message_complete(self) -> None:
        if self._now.status != 100:
            self._done(self._now)


class HttpProxy:
    """A proxy in front of one server; `keep` is given every inference that passed."""

    def __init__(
        self, scheme: str, host: str, port: int, most_bytes: int, keep: Keep, cafile: Path | None = None
    ) -> None:
        self._host, self._port = host, port
        self._tls = ssl.create_default_context(cafile=cafile) if scheme == "https" else None
        self._most_bytes, self._keep = most_bytes, keep
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which is a free one where 0 is asked for."""
        self._server = await asyncio.start_server(self._serve, host, port)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        # Not cancelled: asyncio's streams report a handler that was as an error.
        self._stopped.set()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        try:
            async with asyncio.timeout(_CONNECT_S):
                server, to_server = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        except OSError as error:
            body = f"dynamo-migrate record: {self._host}:{self._port}: {error}\n".encode()
            head = f"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            to_client.write(head.encode() + body)
            await _close(to_client)
            return
        waiting: deque[_Message] = deque()
        requests = _Reader(httptools.HttpRequestParser, self._most_bytes, waiting.append)
        answers = _Reader(httptools.HttpResponseParser, self._most_bytes, lambda answer: self._pair(waiting, answer))
        ways: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(_hand_on(client, to_server, requests)),
            asyncio.ensure_future(_hand_on(server, to_client, answers)),
            asyncio.ensure_future(self._stopped.wait()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _close(to_server)
            await _close(to_client)

    def _pair(self, waiting: deque[_Message], answer: _Message) -> None:
        if not waiting:
            return
        request = waiting.popleft()
        spoken = _spoken(request)
        if spoken is None:
            return
        protocol, model = spoken
        call = Captured(
            protocol=protocol,
            model=model,
            about=request.path,
            path=request.path,
            headers=tuple(request.headers),
            messages=(bytes(request.body),),
            refused=_why_not(request),
        )
        responses = () if answer.cut else (bytes(answer.body),)
        status = "ok" if answer.status < 400 else str(answer.status)
        self._keep(Recorded(call, responses, status, time.perf_counter() - request.began))


def _spoken(request: _Message) -> tuple[str, str] | None:
    """Return the protocol of an inference and its model; None for what is no inference."""
    if found := _INFERENCE.match(request.path):
        return "http", found["model"]
    if not _OPENAI.match(request.path):
        return None
    try:
        asked = json.loads(bytes(request.body))
    except ValueError:
        return "openai", ""
    return "openai", str(asked.get("model", "")) if isinstance(asked, dict) else ""


def _why_not(request: _Message) -> str:
    if request.cut:
        return "its body was larger than --most-body"
    if _REGION.search(request.body):
        return "its tensors lay in shared memory"
    return ""


async def _hand_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, reader: _Reader) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(_CHUNK):
            target.write(data)
            reader.feed(data)
            await target.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
