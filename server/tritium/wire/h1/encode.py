"""Response heads, chunks and error bodies as bytes. Values that would break out of their line are refused."""

import json
import time
from functools import lru_cache
from http import HTTPStatus

from tritium.wire.http import Headers, Response

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
JSON_TYPE = (b"content-type", b"application/json")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS_LINES[405] = b"HTTP/1.1 405 Not Allowed\r\n"  # the phrase of libevhtp, and so of Triton
BODILESS = frozenset((100, 101, 102, 103, 204, 304))
"""Statuses that have no body, whatever the headers say (RFC 9112, 6.3)."""
_FORBIDDEN = frozenset((b"content-length", b"transfer-encoding", b"connection", b"date"))


class _Date:
    """The Date field, formatted once a second."""

    __slots__ = ("line", "second")

    def __init__(self) -> None:
        self.second = 0
        self.line = b""

    def now(self) -> bytes:
        """Return the field as a line."""
        second = int(time.time())
        if second != self.second:
            self.second = second
            self.line = time.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(second)).encode()
        return self.line


_date = _Date()


def encode_head(status: int, headers: Headers, *, length: int | None, keep_alive: bool, http11: bool) -> bytes:
    """Encode the status line and all fields; without a `length` the body is chunked (for HTTP/1.0: ends by closing).

    Raises:
        ValueError: A field holds a line break, or is one that belongs to the connection.
    """
    lines = [_given(status, tuple(headers))]
    if status in BODILESS:
        pass
    elif length is not None:
        lines.append(b"content-length: %d\r\n" % length)
    elif http11:
        lines.append(b"transfer-encoding: chunked\r\n")
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    elif not http11:
        lines.append(b"connection: keep-alive\r\n")
    lines.append(_date.now())
    lines.append(b"\r\n")
    return b"".join(lines)


@lru_cache(maxsize=256)
def _given(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Encode what the handler says; kept, for it says the same again and again."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status]
    for name, value in headers:
        if name in _FORBIDDEN:
            raise ValueError(f"{name.decode()} is set by the connection, not by the handler")
        lines.append(b"%b: %b\r\n" % (name, value))
    block = b"".join(lines)
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines):
        raise ValueError("a response header holds a line break")
    return block


def encode_chunk(chunk: bytes | bytearray | memoryview) -> bytes:
    """Frame one chunk of a chunked body."""
    size = chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)
    return b"".join((b"%x\r\n" % size, chunk, b"\r\n"))


def error_response(status: int, message: str) -> Response:
    """Build the answer of the wire itself, in the shape that every inference endpoint uses."""
    return Response(status, (JSON_TYPE,), (json.dumps({"error": message}).encode(),))
