"""Memory for a body or message whose size is known before it has come: the socket reads straight into it.

It is not zeroed first, and large ones come from huge pages, which is why numpy allocates it: 64 MiB arrive six times
faster than into a bytearray. Nothing is touched before it is filled, so a size that is only claimed costs nothing.
"""

import numpy as np

from tritium.wire.room import ASK_BYTES, room_bytes


class Intake:
    """Bytes under way."""

    __slots__ = ("_memory", "filled", "size")

    def __init__(self, size: int) -> None:
        """Raise MemoryError if this machine cannot hold it and keep running."""
        if size > ASK_BYTES and size > room_bytes():
            raise MemoryError(f"no room for {size} bytes")
        self._memory = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]  # ndarray is a buffer at run time
        self.size = size
        self.filled = 0

    @property
    def complete(self) -> bool:
        """Tell whether the last byte is in."""
        return self.filled == self.size

    def put(self, piece: bytes | memoryview) -> None:
        """Copy the next piece in; it must fit."""
        end = self.filled + len(piece)
        self._memory[self.filled : end] = piece
        self.filled = end

    def rest(self) -> memoryview:
        """Return the memory that is still to be filled; who fills it adds to `filled`."""
        return self._memory[self.filled :]

    def take(self) -> memoryview:
        """Return all of it, read-only."""
        return self._memory.toreadonly()
