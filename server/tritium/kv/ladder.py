"""The tiers below one another: blocks go in at the top, sink when they must leave, and rise when they are used again.

    save --> HOST --through, or when evicted--> DISK --through, or when evicted--> OBJECT
               ^-----------used often----------'----------------------------------'

A slow tier takes only blocks that were used often enough (`min_uses`). What lies where is for `holdings` to say.
"""

import time
from collections.abc import Sequence

from tritium.kv.holdings import Found, Holdings
from tritium.kv.level import Level
from tritium.kv.settings import Writing
from tritium.kv.shelf import Entry


class Ladder:
    """Moves blocks into tiers of our own and between them."""

    def __init__(self, levels: Sequence[Level], writing: Writing) -> None:
        self.levels = list(levels)
        self.holdings = Holdings(levels)
        self._through = writing is Writing.THROUGH

    def read(self, found: Sequence[Found], into: Sequence[memoryview]) -> list[bool]:
        """Read pinned blocks of one tier; return which arrived as they were saved. Damaged ones are thrown away."""
        level = found[0].level
        entries = [one.entry for one in found]
        started = time.perf_counter()
        summed = level.read(entries, into)
        seconds = time.perf_counter() - started
        arrived = [got == entry.checksum for got, entry in zip(summed, entries, strict=True)]
        lost = self.holdings.settle_read(level, entries, arrived, unread=summed.count(None), seconds=seconds)
        if lost:
            level.discard(lost)
        return arrived

    def put(
        self,
        keys: Sequence[bytes],
        blocks: Sequence[memoryview],
        checksums: Sequence[int | None] | None = None,
        depth: int = 0,
    ) -> list[bool]:
        """Write blocks to a tier and, as far as they are worth it, to those below; return which the tier now holds."""
        level = self.levels[depth]
        given = checksums or [None] * len(keys)
        taken = self.holdings.take(level, keys, [block.nbytes for block in blocks], use=depth == 0)
        if taken.victims:
            self._sink(level, taken.victims, depth)
            level.discard(taken.victims)
        places = [place for place, entry in enumerate(taken.entries) if entry is not None]
        entries = [entry for entry in taken.entries if entry is not None]
        if entries:
            started = time.perf_counter()
            summed = level.write(entries, [blocks[place] for place in places], [given[place] for place in places])
            self.holdings.settle(level, entries, summed, time.perf_counter() - started)
        if depth and self._through:
            self._copy_down(depth, keys)
        return self.holdings.held(level, keys)

    def promote(self, keys: Sequence[bytes], blocks: Sequence[memoryview], checksums: Sequence[int | None]) -> None:
        """Copy blocks that came from below to the top tier."""
        held = self.put(keys, blocks, checksums)
        self.holdings.count_moved(self.levels[0].tier, promoted=sum(held))

    def copy_down(self, keys: Sequence[bytes]) -> None:
        """Copy blocks that have become worth it to the tiers below, where these are written through."""
        if self._through:
            for depth in range(len(self.levels) - 1):
                self._copy_down(depth, keys)

    def worth_copying(self, key: bytes) -> bool:
        """Return whether `copy_down` would have something to do for a block."""
        return self._through and self.holdings.worth_a_copy(key)

    def clear(self) -> int:
        """Forget every block, those that are being loaded once they are; return how many."""
        gone = 0
        for level in self.levels:
            entries = self.holdings.lose_all(level)
            level.discard(entries)
            self.holdings.remove(level, entries)
            gone += len(entries)
        return gone

    def _sink(self, level: Level, victims: Sequence[Entry], depth: int) -> None:
        """Write blocks that leave a tier to the one below, unless they are there or not worth it."""
        if depth + 1 < len(self.levels):
            self._write_below(level, self.holdings.worth_keeping(victims, self.levels[depth + 1]), depth)

    def _copy_down(self, depth: int, keys: Sequence[bytes]) -> None:
        if depth + 1 == len(self.levels):
            return
        level = self.levels[depth]
        pinned = self.holdings.find_worth(level, self.levels[depth + 1], keys)
        try:
            self._write_below(level, [one.entry for one in pinned], depth)
        finally:
            self.holdings.release(pinned)

    def _write_below(self, level: Level, entries: Sequence[Entry], depth: int) -> None:
        """Write blocks of one tier to the next; nothing else may use their slots meanwhile."""
        if not entries:
            return
        views = []
        good = []
        for entry in entries:
            view = level.view(entry)
            if view is None:
                view = memoryview(bytearray(entry.size_bytes))
                if level.read([entry], [view]) != [entry.checksum]:
                    continue
            views.append(view)
            good.append(entry)
        held = self.put([entry.key for entry in good], views, [entry.checksum for entry in good], depth + 1)
        self.holdings.count_moved(self.levels[depth + 1].tier, demoted=sum(held))
