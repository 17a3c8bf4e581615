"""One connection to Redis: any number of commands under way, answered in order.

open: connect -> AUTH -> SELECT -> PING        then, until it is lost:  ask(command) ... then(reply)
"""

import asyncio
import os
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from tritium.cache.resp import ProtocolError, RedisError, Reply, ReplyReader, command
from tritium.cache.settings import RedisSettings

Then = Callable[[Reply], None]

MOST_UNSENT_BYTES: Final = 64 << 20
"""How much may wait to be sent before nothing more is asked."""


class CannotConnect(Exception):
    """Redis cannot be used; the message says why."""


class RedisConnection(asyncio.Protocol):
    """A connection that is open until `lost` is called, once, with the reason."""

    def __init__(self, answer_timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = answer_timeout_s
        self.lost: Callable[[str], None] | None = None
        self._reader = ReplyReader()
        self._waiting: deque[tuple[Then, float]] = deque()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._why = "the connection was closed"

    @property
    def busy(self) -> bool:
        """Tell whether so much waits to be sent that nothing more should be asked."""
        return self._transport is None or self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES

    def ask(self, request: bytes, then: Then) -> None:
        """Send a command; `then` gets its reply, or None when the connection is lost before."""
        if self._transport is None:
            then(None)
            return
        self._waiting.append((then, self._loop.time() + self._timeout_s))
        self._transport.write(request)
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    async def answer(self, *parts: bytes) -> Reply:
        """Send a command and wait for its reply.

        Raises:
            CannotConnect: Redis refused, or went away.
        """
        answered: asyncio.Future[Reply] = self._loop.create_future()

        def then(reply: Reply) -> None:
            if not answered.done():  # whoever waited may have given up
                answered.set_result(reply)

        self.ask(command(*parts), then)
        reply = await answered
        if isinstance(reply, RedisError):
            raise CannotConnect(reply.message)
        if reply is None:
            raise CannotConnect(self._why)
        return reply

    def close(self) -> None:
        """Close the connection without telling anybody."""
        self.lost = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (called by asyncio)."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are no subclasses of it

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who asked (called by asyncio)."""
        try:
            replies = self._reader.feed(data)
        except ProtocolError as error:
            self._give_up(f"{error}: this is not Redis")
            return
        for reply in replies:
            if not self._waiting:
                self._give_up("a reply that nobody asked for")
                return
            self._waiting.popleft()[0](reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits, and the owner (called by asyncio)."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if exc is not None:
            self._why = str(exc)
        waiting, self._waiting = self._waiting, deque()
        for then, _ in waiting:
            then(None)
        if self.lost is not None:
            self.lost(self._why)

    def _look(self) -> None:
        """Give up on a server that does not answer; those who ask wait for the oldest first."""
        self._timer = None
        if not self._waiting:
            return
        left_s = self._waiting[0][1] - self._loop.time()
        if left_s <= 0:
            self._give_up(f"no answer within {self._timeout_s:g} s")
        else:
            self._timer = self._loop.call_later(left_s, self._look)

    def _give_up(self, why: str) -> None:
        self._why = why
        if self._transport is not None:
            self._transport.abort()


async def connect(settings: RedisSettings, lost: Callable[[str], None]) -> RedisConnection:
    """Open a connection that is ready for GET and SET.

    Raises:
        CannotConnect: it cannot be opened; `lost` is not called.
    """
    loop = asyncio.get_running_loop()
    made: RedisConnection | None = None
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            _, made = await loop.create_connection(
                lambda: RedisConnection(settings.answer_timeout_s),
                settings.host,
                settings.port,
                ssl=_tls(settings),
                server_hostname=(settings.sni or settings.host) if settings.tls else None,
            )
            if settings.password:
                names = (settings.user.encode(),) if settings.user else ()
                await made.answer(b"AUTH", *names, settings.password.encode())
            if settings.db:
                await made.answer(b"SELECT", b"%d" % settings.db)
            await made.answer(b"PING")
    except TimeoutError:
        _close(made)
        raise CannotConnect(f"no connection within {settings.connect_timeout_s:g} s") from None
    except OSError as error:
        _close(made)
        raise CannotConnect(_reason(error)) from None
    except BaseException:
        _close(made)
        raise
    made.lost = lost
    return made


def _reason(error: OSError) -> str:
    """Say what went wrong without the address, which the caller names."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)


def _close(connection: RedisConnection | None) -> None:
    if connection is not None:
        connection.close()


def _tls(settings: RedisSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    context = ssl.create_default_context(cafile=settings.cacert or None, capath=settings.cacert_dir or None)
    if settings.cert:
        context.load_cert_chain(settings.cert, settings.key or None)
    return context
