"""Answers that are compressed, where the method and the client ask for it; others never come here.

A message that compression does not make smaller leaves as it is, with its flag at 0, as from gRPC's core.
"""

import asyncio
import zlib

from tritium.wire.grpc import Effort, Methods, Reply
from tritium.wire.h2 import replies
from tritium.wire.h2.flow import Credit
from tritium.wire.h2.headers import Head
from tritium.wire.h2.messages import Assembler
from tritium.wire.h2.stream import Stream, StreamHost

_LEVELS = {Effort.LOW: 1, Effort.MEDIUM: 6, Effort.HIGH: 9}
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_PLAIN, _COMPRESSED = b"\0", b"\1"
_LARGE_BYTES = 64 << 10
"""From here on the answer to a unary call is compressed beside the event loop: it would take it 2 ms and more."""


class CompressedStream(Stream):
    """A call whose answers are compressed before they are sent."""

    __slots__ = ("_encoding", "_level", "_packed")

    def __init__(
        self, methods: Methods, host: StreamHost, stream_id: int, head: Head, assembler: Assembler, credit: Credit
    ) -> None:
        super().__init__(host, stream_id, head, assembler, credit)
        self._encoding = choose(methods.effort, head.accepts) if head.path in methods.compressed else b""
        self._level = _LEVELS.get(methods.effort, 0)
        self.packs = bool(self._encoding)
        self._packed: bytes | None = None

    def write(self, message: Reply) -> None:
        """Send one message of a streaming response."""
        self._send(message, None)

    def reply(self, message: Reply) -> None:
        """Answer a unary call."""
        self._send(message, replies.TRAILERS_OK)

    async def pack(self, message: Reply) -> Reply:
        """Compress a large answer in a thread; zlib works without the interpreter's lock."""
        plain = message if isinstance(message, (bytes, memoryview)) else b"".join(message)
        if len(plain) > _LARGE_BYTES:
            self._packed = await asyncio.to_thread(deflate, plain, self._encoding, self._level)
        return plain

    def _send(self, message: Reply, trailers: bytes | None) -> None:
        if self.over:
            return
        outbox = self._host.outbox
        if not self._encoding:
            outbox.send(self.outlet, message, trailers)
            return
        outbox.announce(self.outlet, self._encoding)
        plain = message if isinstance(message, (bytes, memoryview)) else b"".join(message)
        packed = self._packed or deflate(plain, self._encoding, self._level)
        if len(packed) < len(plain):
            outbox.send(self.outlet, packed, trailers, flag=_COMPRESSED)
        else:
            outbox.send(self.outlet, plain, trailers, flag=_PLAIN)


def choose(effort: Effort, accepted: bytes) -> bytes:
    """Pick an encoding as gRPC's core ranks them: gzip for little effort, else deflate; b"" where none is accepted."""
    known = {each.strip() for each in accepted.split(b",")} & _WINDOW_BITS.keys()
    if len(known) < 2:
        return next(iter(known), b"")
    return b"gzip" if effort is Effort.LOW else b"deflate"


def deflate(message: bytes | memoryview, encoding: bytes, level: int) -> bytes:
    """Compress a message."""
    stream = zlib.compressobj(level, wbits=_WINDOW_BITS[encoding])
    return stream.compress(message) + stream.flush()
