"""What every tier is to the store: blocks that it holds, and a way to read them and, but for peers, to write them.

A tier answers for each block by itself: None stands for one that could not be written or read, and no error leaves
`write` or `read`. Checksums are compared by the ladder, in one place for all tiers.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from tritium.kv.block import Tier
from tritium.kv.shelf import Entry, Shelf


class Holding(Protocol):
    """Which blocks a tier holds; the lock of `holdings` guards it."""

    @property
    def size_bytes(self) -> int:
        """Return the bytes of what is held."""

    def __len__(self) -> int:
        """Return how many blocks lie here."""

    def __contains__(self, key: bytes) -> bool:
        """Return whether the block lies here or is on its way here."""

    def held(self, key: bytes) -> Entry | None:
        """Return where the block lies, once all of it does."""

    def entries(self) -> Iterator[Entry]:
        """Yield what is held, what matters least first."""

    def touch(self, key: bytes) -> None:
        """Note that the block was used."""

    def remove(self, entry: Entry) -> None:
        """Forget a block."""


class Source(Protocol):
    """A tier to read from, by many threads."""

    @property
    def tier(self) -> Tier:
        """Return which tier it is."""

    @property
    def shelf(self) -> Holding:
        """Return what it holds."""

    @property
    def capacity_bytes(self) -> int:
        """Return the bytes that it has room for."""

    @property
    def resting(self) -> bool:
        """Return whether it failed so recently that it is not asked."""

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Read blocks; return the checksum of what arrived in `into`."""

    def discard(self, entries: Sequence[Entry]) -> None:
        """Make sure that what left a slot is not found again after a restart."""

    def close(self) -> None:
        """Let go of everything, with what was written kept."""


class Level(Source, Protocol):
    """A tier of our own; `write` and `read` are never called twice at once for one slot."""

    min_uses: int

    @property
    def notes(self) -> Sequence[str]:
        """Return what an operator should know of it as it was opened."""

    @property
    def shelf(self) -> Shelf:
        """Return which block lies in which slot."""

    def view(self, entry: Entry) -> memoryview | None:
        """Return a pinned block's bytes where they lie; None where they have to be read."""

    def write(
        self, entries: Sequence[Entry], blocks: Sequence[memoryview], checksums: Sequence[int | None]
    ) -> list[int | None]:
        """Write blocks into their slots; return their checksums, taking those that are given as true."""
