"""Start and stop listening: one function a protocol, all of the same shape.

listener = await listen_http(handler, host="0.0.0.0", port=8000)
await listener.begin()  # where the port is shared
...
await listener.close(grace_s=30)
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from tritium.wire.address import BACKLOG, bind
from tritium.wire.grpc import GrpcLimits, Keepalive, Methods
from tritium.wire.h1.connection import HttpConnection
from tritium.wire.h1.encode import error_response
from tritium.wire.h2.connection import GrpcConnection, scratch_bytes
from tritium.wire.http import Handler, HttpLimits, Refusal
from tritium.wire.memory import keep_freed_memory, look_for_circles_less
from tritium.wire.roster import SWEEP_S, Roster
from tritium.wire.tls import Tls


class Listener(Protocol):
    """An open port. `port` is the real one, also when 0 was asked for.

    Contract: a port that is shared takes no connection before `begin`; any other does from the start.
    """

    host: str
    port: int

    async def begin(self) -> None:
        """Take connections, at a port that other processes serve as well."""
        ...

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let calls in flight finish for up to `grace_s` seconds, then end what is left."""
        ...


class _SocketListener:
    """A Listener whose connections are asyncio protocols of ours."""

    def __init__(self, door: "_Door", host: str, sockets: list[socket.socket], servers: list[asyncio.Server]) -> None:
        self.host = host
        self.port: int = sockets[0].getsockname()[1]
        self._door = door
        self._roster = door.roster
        self._servers = servers
        self._begun = not door.shared
        self._shared = [each.dup() for each in sockets] if door.shared else []

    async def begin(self) -> None:
        """Take connections, at a port that other processes serve as well."""
        self._begun = True
        for server in self._servers:
            await server.start_serving()

    async def close(self, grace_s: float) -> None:
        """Stop accepting, let calls in flight finish for up to `grace_s` seconds, then end what is left."""
        for server in self._servers:
            server.close()
        shared, self._shared = self._shared, []
        for sock in shared:
            with sock:
                if self._begun:
                    await self._take_waiting(sock)
        await self._roster.close(grace_s)

    async def _take_waiting(self, sock: socket.socket) -> None:
        """Accept what the kernel has given to this process of a shared port, and would reset with its socket."""
        accepted = []
        with contextlib.suppress(BlockingIOError):
            while True:
                accepted.append(sock.accept()[0])
        sock.close()
        door = self._door
        for each in accepted:
            each.setblocking(False)
            await self._roster.loop.connect_accepted_socket(door.connection, each, ssl=door.context)


@dataclass(frozen=True, slots=True)
class _Door:
    """What becomes of a connection to a port, once it is accepted."""

    connection: Callable[[], asyncio.BaseProtocol]
    roster: Roster
    context: ssl.SSLContext | None
    handshake_s: float
    shared: bool


async def listen_http(
    handler: Handler,
    *,
    host: str,
    port: int,
    limits: HttpLimits | None = None,
    tls: Tls | None = None,
    shared: bool = False,
    refusal: Refusal = error_response,
) -> Listener:
    """Serve HTTP/1.1 on `host`:`port` (0 takes a free one), `shared` with other processes that share it as well.

    `refusal` writes the answers that no handler is asked for.

    Raises:
        ListenError: The address is taken, forbidden or not this machine's.
        TlsError: The certificates cannot be used.
    """
    limits = limits or HttpLimits()
    roster = Roster(secure=tls is not None, sweep_s=_sweep_s(limits.idle_s, limits.header_s), lingers=shared)
    context = tls.context("http/1.1") if tls is not None else None
    connection = partial(HttpConnection, handler, limits, roster, refusal)
    return await _listen(_Door(connection, roster, context, limits.header_s, shared), host, port)


async def listen_grpc(
    methods: Methods,
    *,
    host: str,
    port: int,
    limits: GrpcLimits | None = None,
    tls: Tls | None = None,
    shared: bool = False,
) -> Listener:
    """Serve gRPC on our own HTTP/2; same errors as `listen_http`."""
    limits = limits or GrpcLimits()
    roster = Roster(
        secure=tls is not None,
        sweep_s=_sweep_s(limits.handshake_s, limits.stall_s, *_durations_s(limits.keepalive)),
        scratch_bytes=scratch_bytes(limits),
        lingers=shared,
    )
    context = tls.context("h2") if tls is not None else None
    connection = partial(GrpcConnection, methods, limits, roster)
    return await _listen(_Door(connection, roster, context, limits.handshake_s, shared), host, port)


async def listen_grpcio(
    methods: Methods,
    *,
    host: str,
    port: int,
    limits: GrpcLimits | None = None,
    tls: Tls | None = None,
    shared: bool = False,
) -> Listener:
    """Serve the same methods on grpcio's server, the reference transport; same errors as `listen_http`."""
    from tritium.wire.grpcio import GrpcioListener  # noqa: PLC0415  # grpcio takes 0.1 s to import; few need it

    limits = limits or GrpcLimits()
    return await GrpcioListener.start(methods, host=host, port=port, limits=limits, tls=tls, shared=shared)


async def _listen(door: _Door, host: str, port: int) -> Listener:
    sockets = await bind(host, port, shared=door.shared)
    keep_freed_memory()
    look_for_circles_less()
    timeout_s = door.handshake_s if door.context is not None and door.handshake_s else None
    servers = [
        await door.roster.loop.create_server(
            door.connection,
            sock=each,
            ssl=door.context,
            backlog=BACKLOG,
            ssl_handshake_timeout=timeout_s,
            start_serving=not door.shared,
        )
        for each in sockets
    ]
    return _SocketListener(door, host, sockets, servers)


def _durations_s(keepalive: Keepalive) -> tuple[float, ...]:
    return keepalive.ping_s, keepalive.answer_s, keepalive.age_s, keepalive.age_grace_s


def _sweep_s(*limits_s: float) -> float:
    """Look at the connections often enough for the shortest limit to be kept within a quarter."""
    return min([SWEEP_S, *(limit / 4 for limit in limits_s if limit)])
