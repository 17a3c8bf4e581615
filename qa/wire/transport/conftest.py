"""Real listeners on free ports, and peers that speak to them byte by byte; all on uvloop and on asyncio's loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest
import uvloop
from qa.wire.transport.echo import ECHO
from qa.wire.transport.http2_peer import RawHttp2

from tritium.wire.grpc import GrpcLimits, Methods
from tritium.wire.http import Handler, HttpLimits
from tritium.wire.listener import Listener, listen_grpc, listen_grpcio, listen_http
from tritium.wire.tls import Tls

BOUND_S = 60.0
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def pytest_asyncio_loop_factories():
    """Name the loops that every test here runs on."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@dataclass
class Answer:
    """A response as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)


class Peer:
    """A client that sends exactly the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), BOUND_S)

    async def dribble(self, data: bytes) -> None:
        """Send every byte in a packet of its own."""
        for index in range(len(data)):
            self.writer.write(data[index : index + 1])
            await asyncio.sleep(0)

    async def read(self, size: int = 1 << 16) -> bytes:
        return await asyncio.wait_for(self.reader.read(size), BOUND_S)

    async def read_exactly(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), BOUND_S)

    async def line(self) -> str:
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n"), BOUND_S))[:-2].decode()

    async def head(self) -> Answer:
        version, status, _ = (await self.line()).split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        while line := await self.line():
            name, value = line.split(": ", 1)
            assert name not in headers
            headers[name] = value
        return Answer(int(status), headers)

    async def chunk(self) -> bytes:
        size = int(await self.line(), 16)
        chunk = await self.read_exactly(size)
        assert await self.line() == ""
        return chunk

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response, framed as its headers say."""
        answer = await self.head()
        if answer.status == 100 or method == "HEAD":
            return answer
        if answer.headers.get("transfer-encoding") == "chunked":
            while chunk := await self.chunk():
                answer.chunks.append(chunk)
            answer.body = b"".join(answer.chunks)
        elif "content-length" in answer.headers:
            answer.body = await self.read_exactly(int(answer.headers["content-length"]))
        else:
            answer.body = await asyncio.wait_for(self.reader.read(), BOUND_S)
        return answer

    async def closed(self) -> bool:
        """Wait until the server has closed; nothing may come before that."""
        try:
            return await self.read() == b""
        except ConnectionResetError:
            return True

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Wire:
    """Starts listeners and peers, and ends them after the test."""

    listeners: list[Listener] = field(default_factory=list)
    peers: list[Peer] = field(default_factory=list)

    async def http(self, handler: Handler, limits: HttpLimits | None = None, tls: Tls | None = None) -> Listener:
        self.listeners.append(await listen_http(handler, host="127.0.0.1", port=0, limits=limits, tls=tls))
        return self.listeners[-1]

    async def grpc(self, methods: Methods, limits: GrpcLimits | None = None, tls: Tls | None = None) -> Listener:
        self.listeners.append(await listen_grpc(methods, host="127.0.0.1", port=0, limits=limits, tls=tls))
        return self.listeners[-1]

    async def grpcio(self, methods: Methods, limits: GrpcLimits | None = None, tls: Tls | None = None) -> Listener:
        self.listeners.append(await listen_grpcio(methods, host="127.0.0.1", port=0, limits=limits, tls=tls))
        return self.listeners[-1]

    async def peer(self, listener: Listener, *, receive_bytes: int = 0) -> Peer:
        """Connect; a small `receive_bytes` makes a client that takes little at a time."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", listener.port))
        except OSError:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive_bytes or 1 << 20)
        self.peers.append(Peer(reader, writer))
        return self.peers[-1]

    async def end(self) -> None:
        for peer in self.peers:
            peer.leave()
        for listener in self.listeners:
            await asyncio.wait_for(listener.close(0.0), BOUND_S)
        for peer in self.peers:
            with contextlib.suppress(OSError):
                await asyncio.wait_for(peer.writer.wait_closed(), BOUND_S)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    yield wire
    await wire.end()


@pytest.fixture
def bounded() -> Callable[[Awaitable[object]], Awaitable[object]]:
    """Wait for something, but not for ever."""

    async def wait(awaitable):
        return await asyncio.wait_for(awaitable, BOUND_S)

    return wait


@pytest.fixture(params=["ours", "grpcio"])
async def serve(request, wire):
    """Start a server of the methods given; return its address."""

    async def start(methods, limits=None):
        listener = await (wire.grpc if request.param == "ours" else wire.grpcio)(methods, limits)
        start.listener, start.transport = listener, request.param
        return f"127.0.0.1:{listener.port}"

    return start


@pytest.fixture
def client(serve):
    """Run a function of a channel in a thread, as grpcio's blocking client wants it."""

    async def run(methods, work, *, options=(), limits=None):
        address = await serve(methods, limits)

        def call():
            with grpc.insecure_channel(address, options=[*UNLIMITED, *options]) as channel:
                return work(channel)

        with ThreadPoolExecutor(1) as pool:
            return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(pool, call), BOUND_S)

    return run


@pytest.fixture
def connect(wire):
    """Connect to a new server of the methods given."""

    async def start(methods=ECHO, limits=None, *, settings=None, greet=True):
        start.listener = await wire.grpc(methods, limits)
        raw = RawHttp2(await wire.peer(start.listener))
        return await raw.greet(settings) if greet else raw

    return start
