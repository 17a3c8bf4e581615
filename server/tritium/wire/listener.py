"""Start and stop listening: one function a protocol, all of the same shape.

listener = await listen_http(handler, host="0.0.0.0", port=8000)
...
await listener.close(grace_s=30)
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from tritium.wire.errors import ListenError
from tritium.wire.grpc import GrpcLimits, Methods
from tritium.wire.h1.connection import HttpConnection
from tritium.wire.h2.connection import GrpcConnection, scratch_bytes
from tritium.wire.http import Handler, HttpLimits
from tritium.wire.roster import SWEEP_S, Roster
from tritium.wire.tls import Tls

BACKLOG = 1024


class Listener(Protocol):
    """An open port. `port` is the real one, also when 0 was asked for."""

    host: str
    port: int

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let calls in flight finish for up to `grace_s` seconds, then end what is left."""
        ...


class _SocketListener:
    """A Listener whose connections are asyncio protocols of ours."""

    def __init__(self, host: str, port: int, servers: list[asyncio.Server], roster: Roster) -> None:
        self.host = host
        self.port = port
        self._servers = servers
        self._roster = roster

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let calls in flight finish for up to `grace_s` seconds, then end what is left."""
        for server in self._servers:
            server.close()
        await self._roster.close(grace_s)


async def listen_http(
    handler: Handler, *, host: str, port: int, limits: HttpLimits | None = None, tls: Tls | None = None
) -> Listener:
    """Serve HTTP/1.1 on `host`:`port` (0 takes a free one).

    Raises:
        ListenError: The address is taken, forbidden or not this machine's.
        TlsError: The certificates cannot be used.
    """
    limits = limits or HttpLimits()
    roster = Roster(secure=tls is not None, sweep_s=_sweep_s(limits.idle_s, limits.header_s))
    context = tls.context("http/1.1") if tls is not None else None
    return await _listen(lambda: HttpConnection(handler, limits, roster), roster, host, port, context)


async def listen_grpc(
    methods: Methods, *, host: str, port: int, limits: GrpcLimits | None = None, tls: Tls | None = None
) -> Listener:
    """Serve gRPC on our own HTTP/2; same errors as `listen_http`."""
    limits = limits or GrpcLimits()
    roster = Roster(
        secure=tls is not None,
        sweep_s=_sweep_s(limits.handshake_s, limits.stall_s),
        scratch_bytes=scratch_bytes(limits),
    )
    context = tls.context("h2") if tls is not None else None
    return await _listen(lambda: GrpcConnection(methods, limits, roster), roster, host, port, context)


async def listen_grpcio(
    methods: Methods, *, host: str, port: int, limits: GrpcLimits | None = None, tls: Tls | None = None
) -> Listener:
    """Serve the same methods on grpcio's server, the reference transport; same errors as `listen_http`."""
    from tritium.wire.grpcio import GrpcioListener  # noqa: PLC0415  # grpcio takes 0.1 s to import; few need it

    return await GrpcioListener.start(methods, host=host, port=port, limits=limits or GrpcLimits(), tls=tls)


async def _listen(
    connection: Callable[[], asyncio.BaseProtocol], roster: Roster, host: str, port: int, context: ssl.SSLContext | None
) -> Listener:
    sockets = await bind(host, port)
    servers = [await roster.loop.create_server(connection, sock=each, ssl=context, backlog=BACKLOG) for each in sockets]
    return _SocketListener(host, sockets[0].getsockname()[1], servers, roster)


def _sweep_s(*limits_s: float) -> float:
    """Look at the connections often enough for the shortest limit to be kept within a quarter."""
    return min([SWEEP_S, *(limit / 4 for limit in limits_s if limit)])


async def bind(host: str, port: int) -> list[socket.socket]:
    """Bind every address of `host` to one port; "" means every address of this machine.

    Raises:
        ListenError: See there.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(host, port, f"unknown host ({error.strerror})", hint="check the spelling") from error
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError:
                continue  # the resolver knows IPv6 but the kernel does not
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            sock.listen(BACKLOG)
            port = sock.getsockname()[1]
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _explain(error, host, port) from error
    if not sockets:
        raise ListenError(host, port, "no usable address", hint="name an address of this machine")
    return sockets


def _explain(error: OSError, host: str, port: int) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            hint = f"`ss -ltnp 'sport = :{port}'` shows who has it; stop that program or choose another port"
            return ListenError(host, port, "the port is in use", hint=hint)
        case errno.EACCES | errno.EPERM:
            return ListenError(host, port, "permission denied", hint="ports below 1024 need root; choose a higher one")
        case errno.EADDRNOTAVAIL:
            return ListenError(host, port, "not an address of this machine", hint="0.0.0.0 listens on every address")
        case _:
            return ListenError(host, port, error.strerror or str(error))
