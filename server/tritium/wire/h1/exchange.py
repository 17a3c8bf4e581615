"""One request and its answer, as a handler sees them: `Exchange` is the Request, `ChunkedStream` the Stream."""

from collections.abc import Callable
from typing import Protocol

from tritium.wire.gate import Gate
from tritium.wire.h1.encode import BODILESS, LAST_CHUNK, encode_chunk, encode_head
from tritium.wire.http import Buffer, Headers

TURN_BYTES = 64 << 10
"""More than this does not wait for the end of the turn."""


class Line(Protocol):
    """What an exchange needs of its connection."""

    gate: Gate
    gone: bool

    def fields(self, headers: Headers) -> dict[bytes, bytes]:
        """Return headers by their names in lower case, the first of repeated ones."""
        ...

    def send(self, data: bytes) -> None:
        """Write to the client."""
        ...

    def at_end_of_turn(self, callback: Callable[[], None]) -> None:
        """Call back once the events that wait for the loop now have been handled."""
        ...

    def finished(self, exchange: "Exchange") -> None:
        """Take note that the answer is complete."""
        ...

    def keeps_alive(self, exchange: "Exchange") -> bool:
        """Tell whether the connection outlives this exchange."""
        ...


class Exchange:
    """A request whose body is complete, and the place its answer goes."""

    __slots__ = (
        "_fields",
        "_line",
        "_on_disconnect",
        "answered",
        "body",
        "chunked",
        "headers",
        "http11",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
    )

    def __init__(
        self,
        line: Line,
        *,
        method: str,
        url: bytes,
        headers: Headers,
        body: bytes | memoryview,
        peer: str,
        http11: bool,
        keep_alive: bool,
    ) -> None:
        self._line = line
        self.method = method
        target = url.decode("latin-1")
        if not target.startswith("/"):
            target = _origin_form(target)
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self._fields: dict[bytes, bytes] | None = None
        self.body = body
        self.peer = peer
        self.http11 = http11
        self.keep_alive = keep_alive
        self.chunked: ChunkedStream | None = None
        self.answered = False
        self._on_disconnect: list[Callable[[], None]] | None = None

    def header(self, name: bytes, default: bytes = b"") -> bytes:
        """Return the value of a header; the first of repeated ones."""
        if self._fields is None:
            self._fields = self._line.fields(self.headers)
        return self._fields.get(name, default)

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call back once if the client leaves before the response is complete; at once if it already has."""
        if self._line.gone and not self.answered:
            callback()
        elif self._on_disconnect is None:
            self._on_disconnect = [callback]
        else:
            self._on_disconnect.append(callback)

    def stream(self, status: int, headers: Headers) -> "ChunkedStream":
        """Begin a streamed answer; its head leaves with the first chunk."""
        if self.chunked is not None:
            raise RuntimeError("a request has one answer; stream() was called before")
        self.chunked = ChunkedStream(self, self._line, status, headers)
        return self.chunked

    def disconnected(self) -> list[Callable[[], None]]:
        """Hand over the callbacks that wait for the client to leave; each is handed over once."""
        callbacks, self._on_disconnect = self._on_disconnect, None
        return callbacks or []


class ChunkedStream:
    """A body of unknown length: chunked for HTTP/1.1, ended by closing for HTTP/1.0, left out where there is none.

    What is written in one turn of the loop leaves as one chunk in one write: where an engine is faster than the
    front, the tokens that pile up cost a system call together, not each.
    """

    __slots__ = ("_bodiless", "_exchange", "_head", "_line", "_scheduled", "_size", "_waiting")

    def __init__(self, exchange: Exchange, line: Line, status: int, headers: Headers) -> None:
        self._exchange = exchange
        self._line = line
        self._bodiless = exchange.method == "HEAD" or status in BODILESS
        if not exchange.http11:
            exchange.keep_alive = False
        self._head: bytes | None = encode_head(
            status, headers, length=None, keep_alive=line.keeps_alive(exchange), http11=exchange.http11
        )
        self._waiting: list[Buffer] = []
        self._size = 0
        self._scheduled = False

    @property
    def begun(self) -> bool:
        """Tell whether something was written, the head with it."""
        return self._head is None or self._scheduled

    @property
    def closed(self) -> bool:
        """Tell whether nobody reads any more: the client is gone or the answer is complete."""
        return self._line.gone or self._exchange.answered

    def write(self, chunk: Buffer) -> None:
        """Send one chunk; an empty one sends the head if it has not left yet."""
        if self._line.gone or self._exchange.answered:
            return
        self._waiting.append(chunk)
        self._size += len(chunk)
        if not self._scheduled:
            self._scheduled = True
            self._line.at_end_of_turn(self._end_of_turn)
        elif self._size > TURN_BYTES:
            self.flush()

    async def drain(self) -> None:
        """Wait until the send buffer is below its high-water mark, or the client is gone."""
        self.flush()
        if self._line.gate.shut:
            await self._line.gate.passed()

    def end(self, chunk: Buffer = b"") -> None:
        """Send a last chunk and finish; ending twice is harmless."""
        if self._exchange.answered:
            return
        self._waiting.append(chunk)
        if not self._line.gone:
            last = LAST_CHUNK if self._exchange.http11 and not self._bodiless else b""
            self._send(self._framed() + last)
        self._line.finished(self._exchange)

    def flush(self) -> None:
        """Send what waits for the end of the turn."""
        if not self.closed:
            self._send(self._framed())

    def _end_of_turn(self) -> None:
        self._scheduled = False
        self.flush()

    def _framed(self) -> bytes:
        """Take what waits, as the bytes that go on the wire."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        head, self._head = self._head or b"", None
        body = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        if not body or self._bodiless:
            return head
        return head + (encode_chunk(body) if self._exchange.http11 else bytes(body))

    def _send(self, framed: bytes) -> None:
        if framed:
            self._line.send(framed)


def _origin_form(target: str) -> str:
    """Reduce the absolute form that proxies send (http://host/path) to its path and query."""
    scheme, mark, rest = target.partition("://")
    if not mark or not scheme.isalpha():
        return target
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else "/"
