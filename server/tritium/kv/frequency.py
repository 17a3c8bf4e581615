"""How often blocks are used, for as many blocks as there may be, in memory that does not grow (TinyLFU)."""

import numpy as np
import xxhash

_ROWS = 4
_MOST = 15
# 16 MiB a row: the counts of tiers with more blocks than some millions are shared more.
_MOST_BITS = 24


class Frequency:
    """Counts up to 15 that may be too high where keys share counters, never too low; halved as time goes on."""

    def __init__(self, blocks: int) -> None:
        width = 1 << min(_MOST_BITS, max(10, (4 * blocks - 1).bit_length()))
        self._mask = width - 1
        self._rows = [bytearray(width) for _ in range(_ROWS)]
        self._until_halved = 10 * width

    def add(self, key: bytes) -> int:
        """Count one use; return how many there were, this one included."""
        places = self._places(key)
        least = min(map(bytearray.__getitem__, self._rows, places))
        if least < _MOST:
            for row, place in zip(self._rows, places, strict=True):
                if row[place] == least:
                    row[place] += 1
        self._until_halved -= 1
        if not self._until_halved:
            for row in self._rows:
                counts = np.frombuffer(row, np.uint8)
                counts >>= 1
            self._until_halved = 10 * (self._mask + 1)
        return min(least + 1, _MOST)

    def of(self, key: bytes) -> int:
        """Return how often the key was used of late."""
        return min(map(bytearray.__getitem__, self._rows, self._places(key)))

    def _places(self, key: bytes) -> list[int]:
        digest = xxhash.xxh3_128_intdigest(key)
        return [(digest >> (32 * row)) & self._mask for row in range(_ROWS)]
