"""Response header blocks. They never touch the dynamic table, so that each is encoded once for all connections."""

import functools

from tritium.wire.status import Status

MESSAGE_BYTES = 4 << 10
"""More of a grpc-message is cut off: clients take 8 KiB of headers, and some drop the connection beyond that."""


def literal(name: bytes, value: bytes) -> bytes:
    """Encode a field as a literal without indexing and without Huffman coding (RFC 7541, 6.2.2)."""
    return b"".join((b"\x00", _integer(len(name)), name, _integer(len(value)), value))


def _integer(number: int) -> bytes:
    """Encode an integer with a seven-bit prefix (RFC 7541, 5.1)."""
    if number < 127:
        return bytes((number,))
    number -= 127
    encoded = bytearray((127,))
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


_STATUS_200 = b"\x88"
INITIAL = _STATUS_200 + literal(b"content-type", b"application/grpc")
TRAILERS_OK = literal(b"grpc-status", b"0")


def trailers(status: Status, message: str) -> bytes:
    """Encode the block that ends a response which has begun."""
    block = literal(b"grpc-status", b"%d" % status)
    if message:
        block += literal(b"grpc-message", percent_encode(message))
    if status is Status.UNIMPLEMENTED:
        block += literal(b"grpc-accept-encoding", b"identity,deflate,gzip")
    return block


def trailers_only(status: Status, message: str) -> bytes:
    """Encode the block of a response that has nothing but a status."""
    return INITIAL + trailers(status, message)


@functools.cache
def http_refusal(http_status: int) -> bytes:
    """Encode the block that refuses a request which is not gRPC."""
    return literal(b":status", b"%d" % http_status)


def percent_encode(message: str) -> bytes:
    """Encode a grpc-message: printable ASCII but '%' stays, every other byte becomes %XX."""
    encoded = "".join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f"%{byte:02X}"
        for byte in message.encode("utf-8", "replace")
    )
    if len(encoded) > MESSAGE_BYTES:
        encoded = encoded[:MESSAGE_BYTES]
        escape = encoded.rfind("%", MESSAGE_BYTES - 2)
        if escape >= 0:
            encoded = encoded[:escape]
    return encoded.encode("ascii")
