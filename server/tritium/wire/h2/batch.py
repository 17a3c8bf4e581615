"""Everything that a connection sends in one turn of the loop leaves in one write: one system call for many answers."""

import asyncio
from collections.abc import Sequence

from tritium.wire.http import Buffer

JOIN_BYTES = 64 << 10
"""Up to this size buffers are copied into one; a larger batch leaves at once, by writev, uncopied."""


class Batch:
    """What waits for the end of the turn."""

    __slots__ = ("_buffers", "_loop", "_scheduled", "_size", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._buffers: list[Buffer] = []
        self._size = 0
        self._scheduled = False

    def add(self, buffers: Sequence[Buffer], size: int) -> None:
        """Send `buffers`, of `size` bytes together, when the turn ends."""
        self._buffers.extend(buffers)
        self._size += size
        if self._size > JOIN_BYTES:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_of_turn)

    def flush(self) -> None:
        """Write now; for when nothing more can come in this turn."""
        if not self._buffers:
            return
        buffers, size = self._buffers, self._size
        self._buffers, self._size = [], 0
        if self._transport.is_closing():
            return
        if len(buffers) == 1:
            self._transport.write(buffers[0])
        elif size <= JOIN_BYTES:
            self._transport.write(b"".join(buffers))
        else:
            self._transport.writelines(buffers)

    def _end_of_turn(self) -> None:
        self._scheduled = False
        self.flush()
