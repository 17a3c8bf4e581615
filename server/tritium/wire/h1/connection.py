"""One HTTP/1.1 connection: its requests are handled one after the other and answered in the order they came.

    waiting --its turn--> current --answer complete--> the next one, or the connection ends

While a request waits for its turn nothing more is read, so a connection holds one body beyond the one being handled.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from tritium.wire.gate import Gate
from tritium.wire.h1.encode import BODILESS, CONTINUE, encode_head, error_response
from tritium.wire.h1.exchange import Exchange
from tritium.wire.h1.reader import Reading, RequestReader
from tritium.wire.http import Handler, Headers, HttpLimits, Refusal, Response
from tritium.wire.prompt import is_prompt
from tritium.wire.roster import Roster, was_cancelled

JOIN_BYTES = 32 << 10
"""Smaller answers are copied into one buffer with their head; larger ones are handed to writev as they are."""
LINGER_S = 2.0
"""A refused client may be sending still; closing at once would destroy the answer on its way (RFC 9112, 9.6)."""
SLOWEST_BYTES_PER_S = 512
"""A body that comes slower than this, after `header_s` of grace, is a slow-loris."""

log = structlog.get_logger("tritium.wire")


class HttpConnection(asyncio.BufferedProtocol):
    """The protocol of one accepted socket."""

    def __init__(self, handler: Handler, limits: HttpLimits, roster: Roster, refusal: Refusal = error_response) -> None:
        self.gate = Gate()
        self.gone = False
        self._handler = handler
        self._refusal = refusal
        self._limits = limits
        self._roster = roster
        self._run = roster.begin if is_prompt(handler) else roster.start
        self._reader = RequestReader(self, limits, roster.scratch)
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before any other call
        self._peer = ""
        self._waiting: deque[tuple[Exchange, Response | None]] = deque()
        self._current: Exchange | None = None
        self._continue_owed = False
        self._headers: Headers = ()
        self._fields: dict[bytes, bytes] = {}
        """The headers last asked for, and the same by name: a client that repeats its head repeats the object."""
        self._since = roster.loop.time()
        """When the reader entered the state it is in."""
        self._unsent = 0
        self._unsent_since = self._since

    # the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the accepted socket."""
        self._transport = transport  # type: ignore[assignment]  # a stream transport, by the way it is created
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local"
        self._roster.enter(self)
        most = self._limits.connections
        if most and len(self._roster) > most:
            self._reader.refuse(503, f"this server takes {most} connections at a time; try again later")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # how it was lost changes nothing
        """Tell whoever waits that the client is gone."""
        self._roster.strike(self)
        self._waiting.clear()
        self._client_left()
        self.gate.open()
        self._reader.leave()

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
        """Offer memory to read into."""
        return self._reader.offer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        before = self._reader.reading
        self._reader.advance(nbytes)
        if self._reader.reading is not before:
            self._since = self._roster.loop.time()

    # requests, as the reader makes them

    def on_request(
        self, method: str, url: bytes, headers: Headers, body: bytes | memoryview, *, http11: bool, keep_alive: bool
    ) -> None:
        """Handle a request, now or when its turn comes."""
        self._continue_owed = False
        exchange = Exchange(
            self,
            method=method,
            url=url,
            headers=headers,
            body=body,
            peer=self._peer,
            http11=http11,
            keep_alive=keep_alive,
        )
        self._line_up(exchange, None)

    def on_refusal(self, status: int, message: str) -> None:
        """Answer with an error, after the answers that are due before it."""
        self._continue_owed = False
        exchange = Exchange(
            self, method="", url=b"/", headers=(), body=b"", peer=self._peer, http11=True, keep_alive=False
        )
        self._line_up(exchange, self._refusal(status, message))

    def on_expect(self) -> None:
        """Ask for the body, once no earlier answer can be confused with it."""
        if self._current is None:
            self.send(CONTINUE)
        else:
            self._continue_owed = True

    def _line_up(self, exchange: Exchange, refusal: Response | None) -> None:
        if self._current is None and not self._waiting:
            self._start(exchange, refusal)
        else:
            self._waiting.append((exchange, refusal))
            if refusal is None:
                self._transport.pause_reading()

    # handling

    def _next(self) -> None:
        """Start the request whose turn it is, unless the client has yet to read earlier answers."""
        if self._current is not None or self.gate.shut or self._transport.is_closing():
            return
        if self._waiting:
            self._start(*self._waiting.popleft())
        if not self._waiting:
            self._transport.resume_reading()
        if self._continue_owed and self._current is None:
            self._continue_owed = False
            self.send(CONTINUE)

    def _start(self, exchange: Exchange, refusal: Response | None) -> None:
        self._current = exchange
        if refusal is None:
            self._run(exchange, self._handle(exchange))
        else:
            self._answer(exchange, refusal)

    async def _handle(self, exchange: Exchange) -> None:
        try:
            response = await self._handler(exchange)
            if response is not None:
                self._answer(exchange, response)
            elif exchange.chunked is None:
                raise RuntimeError("the handler returned None without having begun a stream")  # noqa: TRY301  # one way out
            elif exchange.chunked.closed:
                exchange.chunked.end()  # a handler that sees its client gone may leave its stream as it is
        except (Exception, asyncio.CancelledError) as fault:  # whatever a handler raises is answered, and logged
            if was_cancelled(fault):
                self._transport.abort()
                raise
            log.exception("http_handler_failed", method=exchange.method, path=exchange.path)
            self._answer_fault(exchange, fault)
        finally:
            del self._roster.running[exchange]

    def _answer_fault(self, exchange: Exchange, fault: BaseException) -> None:
        if exchange.answered:
            return
        if exchange.chunked is not None and exchange.chunked.begun:
            # The status has left: an unfinished body is the only way to say that something went wrong.
            exchange.chunked.flush()
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
        if self._transport.is_closing():
            pass  # the client has gone, and the handler took its time
        elif not length or exchange.method == "HEAD" or response.status in BODILESS:
            self._transport.write(head)
        elif length <= JOIN_BYTES:
            self._transport.write(b"".join((head, *parts)))
        else:
            self._transport.writelines((head, *parts))
        self.finished(exchange)

    def fields(self, headers: Headers) -> dict[bytes, bytes]:
        """Return headers by their names in lower case, the first of repeated ones."""
        if headers is not self._headers:
            self._headers = headers
            self._fields = {name.lower(): value for name, value in reversed(headers)}
        return self._fields

    def send(self, data: bytes) -> None:
        """Write to the client, if it is still there."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def at_end_of_turn(self, callback: Callable[[], None]) -> None:
        """Call back once the events that wait for the loop now have been handled."""
        self._roster.loop.call_soon(callback)

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
        if self._reader.reading is Reading.REFUSED and not self._waiting:
            self._linger()
        elif not self.keeps_alive(exchange):
            self._transport.close()
        else:
            if self._reader.reading is Reading.IDLE:
                self._since = self._roster.loop.time()
            if self._waiting:
                # Not from here: a prompt handler may be calling, and a thousand requests may be waiting.
                self._roster.loop.call_soon(self._next)
            else:
                self._next()

    # ending

    def _linger(self) -> None:
        """Leave the answer time to arrive: stop sending, and throw away what still comes."""
        self._since = self._roster.loop.time()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def _client_left(self) -> None:
        self.gone = True
        if self._current is not None:
            for callback in self._current.disconnected():
                self._roster.loop.call_soon(callback)

    def wind_down(self) -> None:
        """Close as soon as nothing is under way; called once, when the listener closes."""
        if self._current is None and not self._waiting and self._reader.reading is Reading.IDLE:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """End the connection if its client takes too long over whatever it is due to do; called every so often."""
        limits, reader = self._limits, self._reader
        unsent = self._transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._unsent_since = now
        self._unsent = unsent
        busy = self._current is not None or bool(self._waiting)
        waited = now - self._since
        if limits.idle_s and now - self._unsent_since > limits.idle_s:
            self._transport.abort()
            return
        match reader.reading:
            case Reading.IDLE:
                if not busy and limits.idle_s and waited > limits.idle_s:
                    self._transport.close()
            case Reading.HEAD:
                if limits.header_s and waited > limits.header_s:
                    reader.refuse(408, f"the request head did not arrive within {limits.header_s:g} seconds")
            case Reading.BODY:
                late = (waited - limits.header_s) * SLOWEST_BYTES_PER_S > reader.body_bytes
                if limits.header_s and late and not self._waiting:
                    reader.refuse(408, f"the request body came slower than {SLOWEST_BYTES_PER_S} bytes a second")
            case Reading.REFUSED:
                if not busy and waited > LINGER_S:
                    self._transport.abort()
