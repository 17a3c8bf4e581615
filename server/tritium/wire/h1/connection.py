"""One HTTP/1.1 connection. Requests may be pipelined; they are handled one after the other and answered in order.

    reading:   IDLE --first byte--> HEAD --blank line--> BODY --last byte--> IDLE    (REFUSED: reads no more)
    handling:  waiting --turn--> current --answer complete--> next, or the connection ends

While a request waits for its turn nothing more is read, so a connection holds one body beyond the one being handled.
"""

import asyncio
from collections import deque
from enum import Enum, auto

import httptools
import structlog

from tritium.wire.gate import Gate
from tritium.wire.h1.encode import CONTINUE, encode_head, error_response
from tritium.wire.h1.exchange import Exchange
from tritium.wire.http import Handler, HttpLimits, Response
from tritium.wire.intake import Intake
from tritium.wire.roster import Roster

JOIN_BYTES = 32 << 10
"""Smaller answers are copied into one buffer with their head; larger ones are handed to writev as they are."""
LINGER_S = 2.0
"""A refused client may be sending still; closing at once would destroy the answer on its way (RFC 9112, 9.6)."""
SLOWEST_BYTES_PER_S = 512
"""A body that comes slower than this, after `header_s` of grace, is a slow-loris."""

log = structlog.get_logger("tritium.wire")


class Reading(Enum):
    """Which part of a request comes next."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    REFUSED = auto()


class HttpConnection(asyncio.BufferedProtocol):
    """The protocol of one accepted socket."""

    def __init__(self, handler: Handler, limits: HttpLimits, roster: Roster) -> None:
        self.gate = Gate()
        self.gone = False
        self._handler = handler
        self._limits = limits
        self._roster = roster
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any other call
        self._peer = ""
        self._parser = httptools.HttpRequestParser(self)
        self._reading = Reading.IDLE
        self._since = roster.loop.time()
        self._waiting: deque[tuple[Exchange, Response | None]] = deque()
        self._current: Exchange | None = None
        self._last = False
        self._head_bytes = 0
        self._upload: Intake | None = None
        self._continue_owed = False
        self._unsent = 0
        self._unsent_since = self._since
        self._begin_message()

    # the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the accepted socket."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by the way it is created
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"
        self._roster.enter(self)
        most = self._limits.connections
        if most and len(self._roster) > most:
            self._refuse(503, f"this server takes {most} connections at a time; try again later")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it was lost changes nothing
        """Tell whoever waits that the client is gone."""
        self._roster.strike(self)
        self._upload = None
        self._waiting.clear()
        self._client_left()
        self.gate.open()

    def eof_received(self) -> bool:
        """Finish the answer under way for a client that closed its sending side, then close.

        A half-closed client cannot be told from one that left, so streams and long work are told that it left.
        """
        self._client_left()
        return self._current is not None and not self._roster.secure

    def pause_writing(self) -> None:
        """Hold writers back: the client reads slower than they write."""
        self.gate.close()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self.gate.open()
        self._next()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the loop's wish is its own constant
        """Offer the rest of an upload, or the shared scratch memory."""
        return self._roster.scratch if self._upload is None else self._upload.rest()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read into the buffer offered last."""
        if self._upload is None:
            if self._reading is not Reading.REFUSED:
                self._feed(self._roster.scratch[:nbytes])
            return
        self._upload.filled += nbytes
        if self._upload.complete:
            body, self._upload = self._upload.take(), None
            self._parser = httptools.HttpRequestParser(self)
            self._arrived(body)
            self._since = self._roster.loop.time()

    # reading

    def _feed(self, data: memoryview) -> None:
        before = self._reading
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An offer to switch (h2c, websocket) may be ignored; RFC 9110, 7.8.
            self._parser = httptools.HttpRequestParser(self)
            rest = data[upgrade.args[0] :]
            if rest and not self._last:
                self._feed(rest)
                return
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            if not self._last:
                self._refuse(400, f"malformed HTTP request: {error}")
            return
        if self._reading is Reading.BODY and not self._body_begun:
            self._begin_body()
        elif self._reading is Reading.HEAD:
            self._head_bytes = self._head_bytes + len(data) if before is Reading.HEAD else 0
            if self._head_bytes > self._limits.header_bytes:
                self._refuse(431, f"the request head is larger than {self._limits.header_bytes} bytes")
        if self._too_large:
            self._refuse(413, f"the request body is larger than {self._limits.body_bytes} bytes")
        if self._reading is not before:
            self._since = self._roster.loop.time()

    def _begin_message(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._body_bytes = 0
        self._body_begun = False
        self._too_large = False

    def _begin_body(self) -> None:
        """Prepare for a body of which the head's packet held only a part, or nothing."""
        self._body_begun = True
        limit = self._limits.body_bytes
        for name, value in self._headers:
            if name == b"content-length":
                size = int(value)
                if limit and size > limit:
                    self._too_large = True
                    return
                try:
                    self._upload = Intake(size)
                    self._upload.put(b"".join(self._pieces))
                except MemoryError:
                    self._refuse(413, f"this machine has no room for a body of {size} bytes")
                    return
            elif name == b"expect" and value.lower() == b"100-continue" and self._http11:
                self._continue_owed = True
        if self._continue_owed and self._current is None:
            self._send_continue()

    def _send_continue(self) -> None:
        self._continue_owed = False
        self.send(CONTINUE)

    def _arrived(self, body: bytes | memoryview) -> None:
        self._reading = Reading.IDLE
        self._head_bytes = 0
        self._continue_owed = False
        if not self._keep_alive:
            self._last = True
        exchange = Exchange(
            self,
            method=self._method,
            url=self._url,
            headers=self._headers,
            body=body,
            peer=self._peer,
            http11=self._http11,
            keep_alive=self._keep_alive,
        )
        if self._current is None and not self._waiting:
            self._start(exchange, None)
        else:
            self._waiting.append((exchange, None))
            self._transport.pause_reading()

    def _refuse(self, status: int, message: str) -> None:
        """Answer with an error, after the answers that are due before it, and read nothing more."""
        self._reading = Reading.REFUSED
        self._since = self._roster.loop.time()
        self._last = True
        self._upload = None
        exchange = Exchange(
            self, method="", url=b"/", headers=(), body=b"", peer=self._peer, http11=True, keep_alive=False
        )
        response = error_response(status, message)
        if self._current is None and not self._waiting:
            self._start(exchange, response)
        else:
            self._waiting.append((exchange, response))

    # called by httptools while it is fed

    def on_message_begin(self) -> None:
        """Expect a request line."""
        self._reading = Reading.HEAD
        self._begin_message()

    def on_url(self, url: bytes) -> None:
        """Collect the request target; it may come in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Remember what the parser knows only now."""
        self._reading = Reading.BODY
        self._method = self._parser.get_method().decode()
        self._http11 = self._parser.get_http_version() == "1.1"
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """Collect a piece of the body, up to the limit."""
        self._body_bytes += len(piece)
        limit = self._limits.body_bytes
        if limit and self._body_bytes > limit:
            self._too_large = True
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Hand the request over."""
        if not self._too_large:
            pieces = self._pieces
            self._arrived(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    # handling

    def _next(self) -> None:
        """Start the request whose turn it is, unless the client has yet to read earlier answers."""
        if self._current is not None or self.gate.shut or self._transport.is_closing():
            return
        if self._waiting:
            self._start(*self._waiting.popleft())
        if not self._waiting and self._reading is not Reading.REFUSED:
            self._transport.resume_reading()
        if self._continue_owed and self._current is None:
            self._send_continue()

    def _start(self, exchange: Exchange, refusal: Response | None) -> None:
        self._current = exchange
        if refusal is not None:
            self._answer(exchange, refusal)
            return
        self._roster.running[exchange] = self._roster.loop.create_task(self._handle(exchange))

    async def _handle(self, exchange: Exchange) -> None:
        try:
            response = await self._handler(exchange)
            if response is not None:
                self._answer(exchange, response)
            elif exchange.chunked is None:
                raise RuntimeError("the handler returned None without having begun a stream")  # noqa: TRY301  # one way out
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception as fault:  # whatever a handler raises is answered, and logged
            log.exception("http_handler_failed", method=exchange.method, path=exchange.path)
            self._answer_fault(exchange, fault)
        finally:
            del self._roster.running[exchange]

    def _answer_fault(self, exchange: Exchange, fault: Exception) -> None:
        if exchange.answered:
            return
        if exchange.chunked is not None and exchange.chunked.begun:
            # The status has left: an unfinished body is the only way to say that something went wrong.
            self._transport.abort()
            return
        self._answer(exchange, error_response(500, f"unexpected {type(fault).__name__}: {fault}"))

    def _answer(self, exchange: Exchange, response: Response) -> None:
        if exchange.answered:
            return
        parts = response.body
        length = 0
        for part in parts:
            length += part.nbytes if isinstance(part, memoryview) else len(part)
        head = encode_head(
            response.status,
            response.headers,
            length=length,
            keep_alive=self.keeps_alive(exchange),
            http11=exchange.http11,
        )
        if exchange.method == "HEAD" or not length:
            self._transport.write(head)
        elif length <= JOIN_BYTES:
            self._transport.write(b"".join((head, *parts)))
        else:
            self._transport.writelines((head, *parts))
        self.finished(exchange)

    def send(self, data: bytes) -> None:
        """Write to the client."""
        self._transport.write(data)

    def keeps_alive(self, exchange: Exchange) -> bool:
        """Tell whether the connection outlives this exchange."""
        return exchange.keep_alive and not self.gone and not (self._roster.closing and not self._waiting)

    def finished(self, exchange: Exchange) -> None:
        """Go on to the next request, or end the connection with this one."""
        exchange.answered = True
        exchange.disconnected()
        self._current = None
        if self._transport.is_closing():
            return
        if self._reading is Reading.REFUSED and not self._waiting:
            self._linger()
        elif not self.keeps_alive(exchange):
            self._transport.close()
        else:
            if self._reading is Reading.IDLE:
                self._since = self._roster.loop.time()
            self._next()

    # ending

    def _linger(self) -> None:
        """Leave the answer time to arrive: stop sending, and throw away what still comes."""
        self._since = self._roster.loop.time()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _client_left(self) -> None:
        self.gone = True
        if self._current is not None:
            for callback in self._current.disconnected():
                self._roster.loop.call_soon(callback)

    def wind_down(self) -> None:
        """Close as soon as nothing is under way; called once, when the listener closes."""
        if self._current is None and not self._waiting and self._reading is Reading.IDLE:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """End the connection if its client takes too long over whatever it is due to do; called every so often."""
        limits, waited = self._limits, now - self._since
        unsent = self._transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        if limits.idle_s and now - self._unsent_since > limits.idle_s:
            self._transport.abort()
        elif self._reading is Reading.REFUSED:
            if self._current is None and not self._waiting and waited > LINGER_S:
                self._transport.abort()
        elif self._reading is Reading.HEAD:
            if limits.header_s and waited > limits.header_s:
                self._refuse(408, f"the request head did not arrive within {limits.header_s:g} seconds")
        elif self._reading is Reading.BODY:
            received = self._body_bytes if self._upload is None else self._upload.filled
            if limits.header_s and (waited - limits.header_s) * SLOWEST_BYTES_PER_S > received and not self._waiting:
                self._refuse(408, f"the request body came slower than {SLOWEST_BYTES_PER_S} bytes a second")
        elif self._current is None and not self._waiting and limits.idle_s and waited > limits.idle_s:
            self._transport.close()
