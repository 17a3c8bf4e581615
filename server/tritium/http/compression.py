"""Content-Encoding of requests and responses: gzip and deflate, as Triton takes and gives them."""

import zlib

from tritium.core.errors import InvalidArgument, Unsupported

# zlib's window argument: 15 bits; +16 writes a gzip frame, +32 reads either frame.
_WRITE = {b"gzip": 15 + 16, b"deflate": 15}
_READ_EITHER = 15 + 32


def unpack(body: bytes | memoryview, encoding: bytes, most: int) -> bytes | memoryview:
    """Undo a Content-Encoding, up to `most` bytes.

    Raises:
        Unsupported: an encoding other than gzip, deflate and identity.
        InvalidArgument: the body is not what its encoding says, or unpacks to more than `most` bytes.
    """
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in _WRITE:
        raise Unsupported("Unsupported compression type", hint="gzip or deflate")
    stream = zlib.decompressobj(_READ_EITHER)
    try:
        unpacked = stream.decompress(body, most)
    except zlib.error as problem:
        raise InvalidArgument(f"failed to decompress the request body: {problem}") from None
    if stream.unconsumed_tail:
        raise InvalidArgument(f"the request body decompresses to more than {most} bytes")
    if not stream.eof:
        raise InvalidArgument("failed to decompress the request body: it ends early")
    return unpacked


def accepted(header: bytes) -> bytes:
    """Choose an encoding for the response from Accept-Encoding: the supported one of the highest q, or none."""
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


def pack(parts: list[bytes | bytearray | memoryview], encoding: bytes) -> bytes:
    """Compress a body with an encoding that `accepted` chose."""
    stream = zlib.compressobj(wbits=_WRITE[encoding])
    return b"".join([*map(stream.compress, parts), stream.flush()])
