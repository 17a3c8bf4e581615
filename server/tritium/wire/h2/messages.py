"""gRPC messages in DATA: a flag, four bytes of length, the message; cut and put together over any fragmentation."""

import asyncio
import struct
import zlib
from dataclasses import dataclass

from tritium.wire.grpc import GrpcError
from tritium.wire.intake import Intake
from tritium.wire.status import Status

PREFIX_BYTES = 5
PLAIN_BYTES = 32 << 10
"""A message up to this size is handed over as bytes, which protobuf takes without another copy."""
LARGE_BYTES = 16 << 10
"""From here on a compressed message is unpacked beside the event loop: it may come to a thousand times as much."""
_PREFIX = struct.Struct(">BL")
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Packed:
    """A large compressed message, as it came."""

    data: bytes | memoryview
    encoding: bytes
    limit: int

    def __len__(self) -> int:
        """Return what it holds in memory, in bytes."""
        return len(self.data)

    async def unpack(self) -> bytes:
        """Decompress it in a thread; zlib works without the interpreter's lock.

        Raises:
            GrpcError: as `inflate`.
        """
        return await asyncio.to_thread(inflate, self.data, self.encoding, self.limit)


Message = bytes | memoryview | Packed


class Assembler:
    """Puts the messages of one stream together.

    Raises GrpcError from any method when a message is too large, compressed without leave, or not what it says.
    """

    __slots__ = ("_compressed", "_encoding", "_intake", "_limit", "_prefix")

    def __init__(self, encoding: bytes, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._prefix = b""
        self._intake: Intake | None = None
        self._compressed = False

    @property
    def between_messages(self) -> bool:
        """Tell whether nothing is half received."""
        return self._intake is None and not self._prefix

    def feed(self, piece: memoryview) -> list[Message]:
        """Take a piece of DATA; return the messages that it completes."""
        end = len(piece)
        if end >= PREFIX_BYTES and self._intake is None and not self._prefix:
            flag, size = _PREFIX.unpack_from(piece)
            if not flag and size == end - PREFIX_BYTES and size <= PLAIN_BYTES and size <= self._limit:
                return [bytes(piece[PREFIX_BYTES:])]  # one small message, as nearly all of them come
        messages: list[Message] = []
        at = 0
        while at < end:
            if self._intake is None:
                missing = PREFIX_BYTES - len(self._prefix)
                if end - at < missing:
                    self._prefix += piece[at:end]
                    return messages
                prefix = self._prefix + piece[at : at + missing]
                at += missing
                self._prefix = b""
                size = self._open(prefix)
                if size <= end - at and size <= PLAIN_BYTES:
                    messages.append(self._finish(bytes(piece[at : at + size])))
                    at += size
                    continue
                self._intake = _room(size)
            intake = self._intake
            part = piece[at : at + intake.size - intake.filled]
            intake.put(part)
            at += len(part)
            if intake.complete:
                messages.append(self._taken(intake))
        return messages

    def vacancy(self) -> memoryview | None:
        """Offer the rest of the message under way."""
        return None if self._intake is None else self._intake.rest()

    def filled(self, size: int) -> list[Message]:
        """Note that the next `size` bytes were read into the vacancy."""
        intake = self._intake
        assert intake is not None
        intake.filled += size
        return [self._taken(intake)] if intake.complete else []

    def _open(self, prefix: bytes) -> int:
        flag: int
        size: int
        flag, size = _PREFIX.unpack(prefix)
        if flag > 1:
            raise GrpcError(Status.INTERNAL, f"message flag {flag} is neither 0 (plain) nor 1 (compressed)")
        self._compressed = flag == 1
        if self._compressed and self._encoding == b"identity":
            raise GrpcError(Status.INTERNAL, "a message is compressed, but the call has no grpc-encoding")
        if size > self._limit:
            raise _too_large(size, self._limit)
        return size

    def _taken(self, intake: Intake) -> Message:
        self._intake = None
        memory = intake.take()
        return self._finish(bytes(memory) if intake.size <= PLAIN_BYTES else memory)

    def _finish(self, message: bytes | memoryview) -> Message:
        if not self._compressed:
            return message
        if len(message) > LARGE_BYTES:
            return Packed(message, self._encoding, self._limit)
        return inflate(message, self._encoding, self._limit)


def inflate(message: bytes | memoryview, encoding: bytes, limit: int) -> bytes:
    """Decompress a message, to at most `limit` bytes whatever it claims.

    Raises:
        GrpcError: The data is broken, incomplete, or larger than `limit` once decompressed.
    """
    stream = zlib.decompressobj(_ZLIB_OR_GZIP)
    try:
        # One byte more than the limit tells a message of exactly that size from a larger one.
        plain = stream.decompress(message, limit + 1)
    except zlib.error as error:
        raise GrpcError(Status.INTERNAL, f"cannot decompress a {encoding.decode()} message: {error}") from None
    if len(plain) > limit:
        raise _too_large(len(plain), limit)
    if not stream.eof:
        raise GrpcError(Status.INTERNAL, f"a {encoding.decode()} message ends too early")
    return plain


def _room(size: int) -> Intake:
    try:
        return Intake(size)
    except MemoryError:
        raise GrpcError(Status.RESOURCE_EXHAUSTED, f"no memory for a message of {size} bytes") from None


def _too_large(size: int, limit: int) -> GrpcError:
    # The words of grpc's own servers, which clients search for.
    return GrpcError(Status.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs. {limit})")
