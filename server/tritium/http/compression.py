"""Content-Encoding of requests and responses: gzip and deflate, as Triton takes and gives them."""

import asyncio
import zlib
from collections.abc import Sequence

from tritium.core.errors import InvalidArgument, Unsupported
from tritium.wire.http import Buffer

_LONG = 64 << 10
"""Bytes from which on a body is worked on beside the event loop, which would serve nobody meanwhile."""

# zlib's window argument: 15 bits; +16 writes a gzip frame, +32 reads either frame.
_WRITE = {b"gzip": 15 + 16, b"deflate": 15}
_READ_EITHER = 15 + 32


class UnknownEncoding(Unsupported):
    """A Content-Encoding that is not read here; the answer says which are."""


async def unpack(body: bytes | memoryview, encoding: bytes, most: int) -> bytes | memoryview:
    """Undo a Content-Encoding, up to `most` bytes (0: any number).

    Raises:
        UnknownEncoding: an encoding other than gzip, deflate and identity.
        InvalidArgument: the body is not what its encoding says, or unpacks to more than `most` bytes.
    """
    if encoding in (b"", b"identity"):
        return body
    if encoding not in _WRITE:
        raise UnknownEncoding("Unsupported compression type")
    if not len(body):
        raise InvalidArgument("nothing to be decompressed")
    if len(body) < _LONG:
        return _unpack(body, most)
    return await asyncio.to_thread(_unpack, body, most)


def _unpack(body: bytes | memoryview, most: int) -> bytes:
    stream = zlib.decompressobj(_READ_EITHER)
    try:
        unpacked = stream.decompress(body, most and most + 1)
    except zlib.error as problem:
        raise InvalidArgument(f"failed to decompress the request body: {problem}") from None
    if most and len(unpacked) > most:
        raise InvalidArgument(
            f"Decompressed data size exceeds the maximum allowed value of {most} bytes. "
            "Use --http-max-input-size to increase the limit."
        )
    if not stream.eof:
        raise InvalidArgument("failed to decompress the request body: it ends early")
    return unpacked


def accepted(header: bytes) -> bytes:
    """Choose an encoding for the response from Accept-Encoding: the supported one of the highest q, or none."""
    if not header:
        return b""
    best, choice = 0.0, b""
    for item in header.lower().split(b","):
        name, _, parameters = item.partition(b";")
        quality = _quality(parameters)
        if quality > best and name.strip() in _WRITE:
            best, choice = quality, name.strip()
    return choice


def _quality(parameters: bytes) -> float:
    key, _, value = parameters.partition(b"=")
    if key.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


async def pack(parts: Sequence[Buffer], encoding: bytes) -> bytes:
    """Compress a body with an encoding that `accepted` chose."""
    if sum(map(len, parts)) < _LONG:
        return _pack(parts, encoding)
    return await asyncio.to_thread(_pack, parts, encoding)


def _pack(parts: Sequence[Buffer], encoding: bytes) -> bytes:
    stream = zlib.compressobj(wbits=_WRITE[encoding])
    return b"".join([*map(stream.compress, parts), stream.flush()])
