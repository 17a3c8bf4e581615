"""Connections of the plane: opened by a front, with a bound on everything, and set up so that a dead peer is noticed.

connect -> TLS -> greeting -> a channel of frames
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from tritium.cluster.channel import Channel
from tritium.cluster.plane.address import PlaneAddress
from tritium.cluster.plane.greeting import GREETING_S, Greeted, GreetingLine, Purpose, Unreachable, greet
from tritium.cluster.plane.security import PlaneSecurity

CONNECT_S = 5.0
"""How long the other machine may take to take a connection."""

_DEAD_MS = 25_000
"""How long what was sent may stay unconfirmed before the kernel gives a connection up."""

_KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", _DEAD_MS))


async def connect(
    address: PlaneAddress,
    security: PlaneSecurity,
    purpose: Purpose,
    front: str,
    channel: Callable[[Greeted], Channel[Any]],
) -> Greeted:
    """Open a connection to a worker, and have `channel` take it over.

    Raises:
        Unreachable: it cannot be reached, or one of the two does not trust the other.
    """
    line = GreetingLine()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S + GREETING_S):
            if address.path:
                transport, _ = await loop.create_unix_connection(lambda: line, address.path)
            else:
                context = security.client_context()
                transport, _ = await loop.create_connection(
                    lambda: line,
                    address.host,
                    address.port,
                    ssl=context,
                    server_hostname="" if context else None,
                    ssl_handshake_timeout=GREETING_S if context else None,
                )
    except TimeoutError:
        raise Unreachable(f"{address} does not answer") from None
    except ssl.SSLError as error:
        raise Unreachable(f"no TLS with {address}: {error.reason or error}") from None
    except OSError as error:
        raise Unreachable(f"{address} cannot be reached: {error.strerror or error}") from None
    except ValueError as error:
        # A path with a zero in it, a host that no name server could be asked for.
        raise Unreachable(f"{address} cannot be an address: {error}") from None
    try:
        watch_over(transport)
        greeted = await greet(line, purpose, front, security.secret)
        line.hand_over(channel(greeted))
    except BaseException:
        transport.abort()
        raise
    return greeted


def watch_over(transport: asyncio.BaseTransport) -> None:
    """Have the kernel notice a peer that is gone without a word."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
