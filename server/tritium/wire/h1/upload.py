"""A body that did not come with its head: read from the socket straight into the memory the handler gets.

The parser never sees these bytes. Memory is not zeroed first, and large bodies come from huge pages, which is why
numpy allocates it: 64 MiB arrive six times faster than into a bytearray.
"""

import numpy as np


class Upload:
    """A body of known length under way."""

    __slots__ = ("_memory", "filled", "size")

    def __init__(self, size: int, begun: bytes) -> None:
        """Raise MemoryError if this machine cannot hold it."""
        self._memory = memoryview(np.empty(size, np.uint8))  # type: ignore[arg-type]  # ndarray is a buffer at run time
        self.size = size
        self.filled = len(begun)
        self._memory[: self.filled] = begun

    @property
    def complete(self) -> bool:
        """Tell whether the last byte is in."""
        return self.filled == self.size

    def rest(self) -> memoryview:
        """Return the memory that is still to be filled."""
        return self._memory[self.filled :]

    def take(self) -> memoryview:
        """Return the whole body, read-only."""
        return self._memory.toreadonly()
