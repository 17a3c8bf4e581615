"""Binds the addresses that a host name stands for, and says in plain words why it cannot."""

import asyncio
import errno
import socket

from tritium.wire.errors import ListenError

BACKLOG = 1024


async def bind(host: str, port: int, *, shared: bool = False) -> list[socket.socket]:
    """Bind every address of `host` to one port; "" means every address of this machine.

    The kernel spreads new connections over all processes that listen at a port that they bound as `shared`. Such a
    socket does not listen yet: its process says when it can serve.

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
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _prepare(sock)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            if not shared:
                sock.listen(BACKLOG)
            port = sock.getsockname()[1]
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _explain(error, host, port) from error
    if not sockets:
        raise ListenError(host, port, "no usable address", hint="name an address of this machine")
    return sockets


def _prepare(sock: socket.socket) -> None:
    """Set what accepted sockets inherit: small writes leave at once, and a peer that vanished is noticed."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _explain(error: OSError, host: str, port: int) -> ListenError:
    match error.errno:
        case errno.EADDRINUSE:
            hint = f"`ss -ltnp 'sport = :{port}'` shows who has it; stop that program or choose another port"
            return ListenError(host, port, "the port is in use", hint=hint, taken=True)
        case errno.EACCES | errno.EPERM:
            return ListenError(host, port, "permission denied", hint="ports below 1024 need root; choose a higher one")
        case errno.EADDRNOTAVAIL:
            return ListenError(host, port, "not an address of this machine", hint="0.0.0.0 listens on every address")
        case _:
            return ListenError(host, port, error.strerror or str(error))
