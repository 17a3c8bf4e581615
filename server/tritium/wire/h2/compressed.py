"""Answers that are compressed, where the method and the client ask for it; others never come here.

A message that compression does not make smaller leaves as it is, with its flag at 0, as from gRPC's core. Of a streamed
answer the large messages are compressed beside the event loop, and what follows them, the end too, waits its turn:

    write --small, nothing before it--> sent
      `--> line --first of it compressed in a thread--> sent --line empty--> the end, where the handler has told one
"""

import asyncio
import zlib
from collections import deque

from tritium.wire.gate import Gate
from tritium.wire.grpc import Effort, Methods, Reply
from tritium.wire.h2 import replies
from tritium.wire.h2.flow import Credit
from tritium.wire.h2.headers import Head
from tritium.wire.h2.messages import Assembler
from tritium.wire.h2.stream import Stream, StreamHost
from tritium.wire.status import Status

_LEVELS = {Effort.LOW: 1, Effort.MEDIUM: 6, Effort.HIGH: 9}
_WINDOW_BITS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_PLAIN, _COMPRESSED = b"\0", b"\1"
_LARGE_BYTES = 64 << 10
"""From here on a message is compressed beside the event loop: it would take it 2 ms and more."""
_MOST_WAITING_BYTES = 4 << 20
"""So much may wait for its turn before whoever streams is held back."""


class CompressedStream(Stream):
    """A call whose answers are compressed before they are sent."""

    __slots__ = ("_encoding", "_end", "_level", "_line", "_packed", "_packing", "_room", "_waiting_bytes")

    def __init__(
        self, methods: Methods, host: StreamHost, stream_id: int, head: Head, assembler: Assembler, credit: Credit
    ) -> None:
        super().__init__(host, stream_id, head, assembler, credit)
        self._encoding = choose(methods.effort, head.accepts) if head.path in methods.compressed else b""
        self._level = _LEVELS.get(methods.effort, 0)
        self.packs = bool(self._encoding)
        self._packed: bytes | None = None
        self._line: deque[bytes | memoryview] = deque()
        """Messages of a streamed answer that wait for their turn; the first of them is being compressed."""
        self._waiting_bytes = 0
        self._packing: asyncio.Task[None] | None = None
        self._end: tuple[Status, str] | None = None
        """How the call ends once the line is empty."""
        self._room = Gate()

    @property
    def over(self) -> bool:
        """Tell whether nothing more can be answered."""
        return self._end is not None or self.cancelled or self.outlet.closed or self.outlet.trailers is not None

    @property
    def unsent_bytes(self) -> int:
        """Return how much of what was written waits for the client, or to be compressed."""
        return self.outlet.pending_bytes + self._waiting_bytes

    def write(self, message: Reply) -> None:
        """Send one message of a streaming response."""
        if self.over:
            return
        plain = message if isinstance(message, (bytes, memoryview)) else b"".join(message)
        if not self._encoding or (self._packing is None and len(plain) <= _LARGE_BYTES):
            self._send(plain, None)
            return
        self._line.append(plain)
        self._waiting_bytes += len(plain)
        if self._waiting_bytes > _MOST_WAITING_BYTES:
            self._room.close()
        if self._packing is None:
            self._packing = self._host.loop.create_task(self._pack_in_turn())

    async def drain(self) -> None:
        """Wait until the peer's window lets more through, or the call is over."""
        if self._room.shut:
            await self._room.passed()
        gate = self.outlet.gate
        if gate is not None and gate.shut:
            await gate.passed()

    def succeed(self) -> None:
        """End a streaming call well, after what waits for its turn."""
        if self._packing is None:
            super().succeed()
        elif not self.over:
            self._end = (Status.OK, "")

    def fail(self, status: Status, message: str) -> None:
        """End the call with an error, after what waits for its turn; a deadline waits for nothing."""
        if self._packing is None or status is Status.DEADLINE_EXCEEDED:
            self._end = None
            super().fail(status, message)
        elif not self.over:
            self._end = (status, message)

    def cancel(self) -> None:
        """Tell the handler that nobody waits any more."""
        super().cancel()
        self._line.clear()
        self._waiting_bytes = 0
        self._room.open()

    async def _pack_in_turn(self) -> None:
        """Send the line, its large messages compressed in a thread; zlib works without the interpreter's lock."""
        while self._line:
            plain = self._line[0]
            if len(plain) > _LARGE_BYTES:
                packed = await asyncio.to_thread(deflate, plain, self._encoding, self._level)
            else:
                packed = deflate(plain, self._encoding, self._level)
            if self.cancelled or self.outlet.closed:
                break
            self._line.popleft()
            self._waiting_bytes -= len(plain)
            self._pass_on(plain, packed, None)
            if self._waiting_bytes <= _MOST_WAITING_BYTES:
                self._room.open()
        self._packing = None
        end, self._end = self._end, None
        if end is None:
            return
        if end[0] is Status.OK:
            self.succeed()
        else:
            self.fail(*end)

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
        if not self._encoding:
            self._host.outbox.send(self.outlet, message, trailers)
            return
        plain = message if isinstance(message, (bytes, memoryview)) else b"".join(message)
        self._pass_on(plain, self._packed or deflate(plain, self._encoding, self._level), trailers)

    def _pass_on(self, plain: bytes | memoryview, packed: bytes, trailers: bytes | None) -> None:
        """Hand on whichever form of a message is the smaller one."""
        outbox = self._host.outbox
        outbox.announce(self.outlet, self._encoding)
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
