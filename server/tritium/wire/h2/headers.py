"""Request header blocks, decoded once and then remembered.

A client sends the same block for the same call again and again once its dynamic table holds what it needs. While the
table stands still such a block means the same thing, so its bytes are a key to the finished `Head`.
"""

import base64
import binascii
import re
from enum import Enum, auto
from typing import NamedTuple

from tritium.wire.h2.fields import BrokenBlock, Field, FieldDecoder, ListTooLarge
from tritium.wire.h2.frames import Code, ConnectionFault

CACHED_BLOCKS = 256
CACHED_BLOCK_BYTES = 1 << 10
REMEMBERED_NAMES = 1000
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_GRPC = re.compile(rb"application/grpc([+;].*)?")
_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class _Role(Enum):
    """What a field is for."""

    PSEUDO = auto()
    TRANSPORT = auto()
    METADATA = auto()
    BINARY = auto()
    FORBIDDEN = auto()


# A module's names are found three times as fast as an enum's members, and this is asked of every field.
_PSEUDO, _TRANSPORT, _METADATA, _BINARY, _FORBIDDEN = _Role
_roles: dict[bytes, _Role] = {
    **dict.fromkeys((b":method", b":scheme", b":path", b":authority"), _PSEUDO),
    **dict.fromkeys((b"te", b"content-type", b"content-length"), _TRANSPORT),
    **dict.fromkeys((b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"), _TRANSPORT),
    # They belong to HTTP/1.1 (RFC 9113, 8.2.2).
    **dict.fromkeys((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"), _FORBIDDEN),
    b"upgrade": _FORBIDDEN,
}


class Head(NamedTuple):
    """What a request's header block says. If `malformed`, or refused by an `http_status`, the rest means nothing.

    A tuple, since one is made for every request of a client whose headers vary: a frozen dataclass takes 2 µs longer.
    """

    path: str
    metadata: tuple[Field, ...]
    timeout_s: float | None = None
    encoding: bytes = b"identity"
    accepts: bytes = b""
    content_length: int | None = None
    http_status: int = 200
    malformed: str = ""


class HeadDecoder:
    """The receiving side of a connection's header compression."""

    __slots__ = ("_cache", "_decoder")

    def __init__(self, *, list_bytes: int) -> None:
        """Refuse header lists that decode to more than `list_bytes`."""
        self._decoder = FieldDecoder(list_bytes=list_bytes)
        self._cache: dict[bytes, Head] = {}

    def head(self, block: bytes) -> Head:
        """Decode the block that opens a request.

        Raises:
            ConnectionFault: The block cannot be decoded, so that no later one could be either.
        """
        head = self._cache.get(block)
        if head is None:
            changes = self._decoder.changes
            head = read_head(self.fields(block))
            if self._decoder.changes == changes and len(block) <= CACHED_BLOCK_BYTES:
                if len(self._cache) >= CACHED_BLOCKS:
                    self._cache.clear()
                self._cache[block] = head
        return head

    def fields(self, block: bytes) -> list[Field]:
        """Decode any block; the table is shared by all, so trailers must pass through here, too.

        Raises:
            ConnectionFault: The block cannot be decoded.
        """
        changes = self._decoder.changes
        try:
            fields = self._decoder.decode(block)
        except ListTooLarge as error:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, str(error)) from None
        except BrokenBlock as broken:
            raise ConnectionFault(Code.COMPRESSION_ERROR, str(broken)) from None
        if self._decoder.changes != changes:
            self._cache.clear()
        return fields


def read_head(fields: list[Field]) -> Head:
    """Make a Head of header fields, checking what RFC 9113 (8.2, 8.3) and gRPC ask of them."""
    pseudo: dict[bytes, bytes] = {}
    metadata: list[Field] = []
    special: dict[bytes, bytes] = {}
    for field in fields:
        name, value = field
        role = _roles.get(name) or _classify(name)
        if role is _METADATA:
            metadata.append(field)
        elif role is _PSEUDO:
            if metadata or special or name in pseudo:
                return Head("", (), malformed=f"pseudo-header {name!r} is repeated or out of place")
            pseudo[name] = value
        elif role is _TRANSPORT:
            special[name] = value
        elif role is _BINARY:
            metadata.extend((name, each) for each in read_binary(value))
        else:
            return Head("", (), malformed=f"header {name!r} is not allowed")
    if not (pseudo.get(b":method") and pseudo.get(b":scheme") and pseudo.get(b":path")):
        return Head("", (), malformed="a request needs :method, :scheme and :path")
    if special.get(b"te", b"trailers") != b"trailers":
        return Head("", (), malformed="te may only be trailers")
    length = special.get(b"content-length")
    if length is not None and not length.isdigit():
        return Head("", (), malformed=f"content-length {length!r}")
    status = 200
    if not _GRPC.fullmatch(special.get(b"content-type", b"")):
        status = 415
    elif pseudo[b":method"] != b"POST":
        status = 405
    return Head(
        path=pseudo[b":path"].decode("latin-1"),
        metadata=tuple(metadata),
        timeout_s=read_timeout(special.get(b"grpc-timeout", b"")),
        encoding=special.get(b"grpc-encoding", b"identity"),
        accepts=special.get(b"grpc-accept-encoding", b""),
        content_length=None if length is None else int(length),
        http_status=status,
    )


def _classify(name: bytes) -> _Role:
    """Find the role of a name, and remember it: clients use few."""
    if not name or name.startswith(b":") or not _UPPER.isdisjoint(name):
        role = _FORBIDDEN
    else:
        role = _BINARY if name.endswith(b"-bin") else _METADATA
    if len(_roles) < REMEMBERED_NAMES:
        _roles[name] = role
    return role


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
