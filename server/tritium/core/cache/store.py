"""Where entries are kept: what a store promises, and the one in the server's own memory."""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from tritium.core.cache.entry import Entry

Found = Callable[[Entry | None], None]


class Insertion(Enum):
    """What became of an entry."""

    STORED = "stored"
    """It is kept, or on its way to be."""
    PRESENT = "present"
    """Another request was faster; its entry stays."""
    REFUSED = "refused"
    """It cannot be kept; the store has said why."""


class Store(Protocol):
    """A place for entries.

    Contract: neither method blocks or raises. `lookup` calls `found` once, on the event loop, possibly before it
    returns; a store that cannot answer finds nothing. `shared` tells whether other servers, or this one's next
    life, see the same entries.
    """

    shared: bool

    def lookup(self, key: bytes, found: Found) -> None:
        """Look for an entry."""
        ...

    def insert(self, key: bytes, entry: Entry) -> Insertion:
        """Keep an entry."""
        ...


class LocalStore:
    """Entries in this process, up to so many bytes in all; those that were not used for longest make room.

    `report` is told why an entry cannot be kept.
    """

    shared = False

    def __init__(self, size_bytes: int, report: Callable[[str], None] | None = None) -> None:
        self._size_bytes = size_bytes
        self._report = report
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self.used_bytes = 0
        self.evictions = 0

    def lookup(self, key: bytes, found: Found) -> None:
        """Look for an entry, and note that it is used."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        found(entry)

    def insert(self, key: bytes, entry: Entry) -> Insertion:
        """Keep an entry, in the place of others where room is needed."""
        if key in self._entries:
            return Insertion.PRESENT
        if entry.size_bytes > self._size_bytes:
            if self._report is not None:
                self._report(
                    f"Failed to insert key [{key.hex()}] into response cache: the entry takes {entry.size_bytes} "
                    f"bytes, the whole cache has {self._size_bytes}"
                )
            return Insertion.REFUSED
        while self.used_bytes + entry.size_bytes > self._size_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.used_bytes -= oldest.size_bytes
            self.evictions += 1
        self._entries[key] = entry
        self.used_bytes += entry.size_bytes
        return Insertion.STORED

    def __len__(self) -> int:
        """Return how many entries there are."""
        return len(self._entries)
