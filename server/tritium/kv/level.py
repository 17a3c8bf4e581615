"""What every tier is to the store: a shelf of slots, and a way to write and read them.

A tier answers for each block by itself: None stands for one that could not be written or read, and no error leaves
`write` or `read`. Checksums are compared by the ladder, in one place for all tiers.
"""

from collections.abc import Sequence
from typing import Protocol

from tritium.kv.block import Tier
from tritium.kv.shelf import Entry, Shelf


class Level(Protocol):
    """One tier; `write` and `read` are called by many threads, never twice at once for one slot."""

    tier: Tier
    shelf: Shelf
    capacity_bytes: int
    min_uses: int

    @property
    def resting(self) -> bool:
        """Return whether it failed so recently that it is not asked."""

    def view(self, entry: Entry) -> memoryview | None:
        """Return a pinned block's bytes where they lie; None where they have to be read."""

    def write(
        self, entries: Sequence[Entry], blocks: Sequence[memoryview], checksums: Sequence[int | None]
    ) -> list[int | None]:
        """Write blocks into their slots; return their checksums, taking those that are given as true."""

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Read blocks; return the checksum of what arrived in `into`."""

    def discard(self, entries: Sequence[Entry]) -> None:
        """Make sure that what left a slot is not found again after a restart."""

    def close(self) -> None:
        """Let go of everything, with what was written kept."""
