"""What an HTTP handler is handed and what it gives back.

A handler is a coroutine function from Request to Response. It runs once the whole body is in. A response whose
length is not known beforehand is a Stream: the handler keeps `request.stream(...)` and writes to it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

Buffer = bytes | bytearray | memoryview
Headers = Sequence[tuple[bytes, bytes]]


class Response(msgspec.Struct, frozen=True):
    """A whole answer; the parts of `body` are sent in order, without being joined when they are large."""

    status: int = 200
    headers: Headers = ()
    body: Sequence[Buffer] = ()


class Stream(Protocol):
    """An answer under way (chunked). Its head leaves together with the first chunk.

    Contract: `write` never blocks; `drain` waits until the client has taken enough. Once the client is gone
    (`closed`), writes do nothing. `end` finishes the response and may add a last chunk.
    """

    @property
    def closed(self) -> bool:
        """Tell whether the client is gone."""
        ...

    def write(self, chunk: Buffer) -> None:
        """Send one chunk."""
        ...

    async def drain(self) -> None:
        """Wait until the send buffer is below its high-water mark."""
        ...

    def end(self, chunk: Buffer = b"") -> None:
        """Send a last chunk and finish."""
        ...


class Request(Protocol):
    """A request whose body is complete.

    `headers` are as they came; `header` takes a name in lower case, and the first of repeated headers wins.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes | memoryview
    peer: str

    def header(self, name: bytes, default: bytes = b"") -> bytes:
        """Return the value of a header."""
        ...

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call back once if the client leaves before the response is complete."""
        ...

    def stream(self, status: int, headers: Headers) -> Stream:
        """Begin a streamed answer; the handler then returns None."""
        ...


Handler = Callable[[Request], Awaitable[Response | None]]

Refusal = Callable[[int, str], Response]
"""Writes the answer to what never became a request, such as a body that is too large, from its status and words."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a connection may cost: sizes in bytes, times in seconds; 0 means no limit."""

    body_bytes: int = 64 << 20
    header_bytes: int = 64 << 10
    idle_s: float = 75.0
    header_s: float = 30.0
    connections: int = 0
    chunks: int = 1 << 16
