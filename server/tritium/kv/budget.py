"""How many bytes may be under way at once; who would exceed it is refused and not made to wait."""

import threading


class Budget:
    """Bytes that are taken and given back; safe from many threads."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._taken_bytes = 0
        self._lock = threading.Lock()

    def take(self, size_bytes: int) -> bool:
        """Take bytes, all or none; return whether there was room."""
        with self._lock:
            fits = self._taken_bytes + size_bytes <= self._size_bytes
            if fits:
                self._taken_bytes += size_bytes
            return fits

    def give(self, size_bytes: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._taken_bytes -= size_bytes
