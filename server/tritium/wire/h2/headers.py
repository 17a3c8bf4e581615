"""Request header blocks, decoded by `hpack` and then remembered.

A client sends the same block for the same call again and again once its dynamic table holds what it needs. While the
table stands still such a block means the same thing, so its bytes are a key to the finished `Head`.
"""

import base64
import binascii
from dataclasses import dataclass

import hpack
from hpack.exceptions import HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from tritium.wire.h2.frames import Code, ConnectionFault

CACHED_BLOCKS = 256
CACHED_BLOCK_BYTES = 1 << 10
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's header block says. If `malformed`, or refused by an `http_status`, the rest means nothing."""

    path: str
    metadata: tuple[Field, ...]
    timeout_s: float | None = None
    encoding: bytes = b"identity"
    content_length: int | None = None
    http_status: int = 200
    malformed: str = ""


class _WatchedTable(HeaderTable):
    """A dynamic table that counts its changes."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        """Add an entry."""
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        """Return the size limit."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]  # a property of the base class


class HeadDecoder:
    """The receiving side of a connection's header compression."""

    __slots__ = ("_cache", "_decoder", "_table")

    def __init__(self, *, list_bytes: int) -> None:
        """Refuse header lists that decode to more than `list_bytes`."""
        self._decoder = hpack.Decoder(max_header_list_size=list_bytes)
        self._table = _WatchedTable()
        self._decoder.header_table = self._table
        self._cache: dict[bytes, Head] = {}

    def head(self, block: bytes) -> Head:
        """Decode the block that opens a request.

        Raises:
            ConnectionFault: The block cannot be decoded, so that no later one could be either.
        """
        head = self._cache.get(block)
        if head is None:
            changes = self._table.changes
            head = read_head(self.fields(block))
            if self._table.changes != changes or len(self._cache) >= CACHED_BLOCKS:
                self._cache.clear()
            if self._table.changes == changes and len(block) <= CACHED_BLOCK_BYTES:
                self._cache[block] = head
        return head

    def fields(self, block: bytes) -> list[Field]:
        """Decode any block; the table is shared by all, so trailers must pass through here, too.

        Raises:
            ConnectionFault: The block cannot be decoded.
        """
        changes = self._table.changes
        try:
            found = [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as error:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, str(error)) from None
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"header block: {error}") from None
        if self._table.changes != changes:
            self._cache.clear()
        return found


def read_head(fields: list[Field]) -> Head:
    """Make a Head of header fields, checking what RFC 9113 (8.2, 8.3) and gRPC ask of them."""
    pseudo: dict[bytes, bytes] = {}
    metadata: list[Field] = []
    timeout_s: float | None = None
    encoding = b"identity"
    content_type = b""
    content_length: int | None = None
    for name, value in fields:
        if name.startswith(b":"):
            if metadata or content_type or name in pseudo or name not in _PSEUDO:
                return Head("", (), malformed=f"pseudo-header {name!r} is unknown, repeated or out of place")
            pseudo[name] = value
        elif name in _CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
            return Head("", (), malformed=f"{name!r} belongs to HTTP/1.1")
        elif not name or not _UPPER.isdisjoint(name):
            return Head("", (), malformed=f"header name {name!r} is not lower case")
        elif name == b"content-type":
            content_type = value
        elif name == b"grpc-timeout":
            timeout_s = read_timeout(value)
        elif name == b"grpc-encoding":
            encoding = value
        elif name == b"content-length":
            if not value.isdigit():
                return Head("", (), malformed=f"content-length {value!r}")
            content_length = int(value)
        elif name.endswith(b"-bin"):
            metadata.extend((name, each) for each in read_binary(value))
        elif name not in (b"te", b"grpc-accept-encoding"):
            metadata.append((name, value))
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        return Head("", (), malformed="a request needs :method, :scheme and :path")
    status = 200
    if not content_type.startswith(b"application/grpc"):
        status = 415
    elif pseudo[b":method"] != b"POST":
        status = 405
    path = pseudo[b":path"].decode("latin-1")
    return Head(path, tuple(metadata), timeout_s, encoding, content_length, status)


def read_timeout(value: bytes) -> float | None:
    """Convert grpc-timeout (digits and a unit) to seconds; one that cannot be read sets no deadline."""
    unit = _UNITS_S.get(value[-1:])
    digits = value[:-1]
    if unit is None or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * unit


def read_binary(value: bytes) -> list[bytes]:
    """Decode the value of a -bin field: base64, padded or not, several joined by commas; as it is if it is not."""
    try:
        return [base64.b64decode(each + b"=" * (-len(each) % 4), validate=True) for each in value.split(b",")]
    except binascii.Error:
        return [value]
