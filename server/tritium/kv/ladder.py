"""The tiers below one another: blocks go in at the top, sink when they must leave, and rise when they are used again.

    save --> HOST --through, or when evicted--> DISK --through, or when evicted--> OBJECT
               ^-----------used often----------'----------------------------------'

A slow tier takes only blocks that were used often enough (`min_uses`). One lock guards what lies where; bytes move
outside it, under pins.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

from tritium.kv.block import Tier
from tritium.kv.frequency import Frequency
from tritium.kv.level import Level, Source
from tritium.kv.settings import Writing
from tritium.kv.shelf import Entry
from tritium.kv.stats import StoreStats, TierStats

_MOST_EVENTS = 1 << 17


@dataclass(frozen=True, slots=True)
class TierEvent:
    """A block that came to a tier (`stored`) or left it."""

    tier: Tier
    key: bytes
    stored: bool


Watcher = Callable[[bytes, int], None]
"""Is told, under the lock, of each block that comes to a tier, with its size, and that leaves it, with 0."""


@dataclass(frozen=True, slots=True)
class Found:
    """A block that is held, pinned until `release`."""

    level: Source
    entry: Entry


class Ladder:
    """What lies where, and how it moves between tiers."""

    def __init__(self, levels: Sequence[Level], writing: Writing) -> None:
        self.levels = list(levels)
        self.sources: list[Source] = list(levels)
        """Where blocks are read from, what is asked first in front: our own tiers, and peers."""
        self._writing = writing
        self._lock = threading.Lock()
        self._uses = Frequency(max(level.shelf.slots for level in levels))
        self._events: deque[TierEvent] = deque(
            (TierEvent(level.tier, entry.key, stored=True) for level in levels for entry in level.shelf.entries()),
            _MOST_EVENTS,
        )
        self.stats = StoreStats({level.tier: TierStats() for level in levels})
        self._watchers: dict[Tier, list[Watcher]] = {}

    def add_source(self, source: Source) -> None:
        """Read from one more place."""
        with self._lock:
            self.sources.append(source)
            self.sources.sort(key=lambda one: list(Tier).index(one.tier))
            self.stats.tiers[source.tier] = TierStats()

    def order(self, tiers: Sequence[Tier]) -> None:
        """Ask tiers in this order for what several of them hold."""
        with self._lock:
            self.sources.sort(key=lambda source: tiers.index(source.tier))

    def update(self, change: Callable[[], Iterable[TierEvent]]) -> None:
        """Change what a tier holds under the lock, telling of what that comes to."""
        with self._lock:
            self._events.extend(change())

    def watch(self, tier: Tier, watcher: Watcher) -> list[tuple[bytes, int]]:
        """Tell a watcher of every change of a tier from now on; return what it holds now, with sizes."""
        with self._lock:
            self._watchers.setdefault(tier, []).append(watcher)
            return [(e.key, e.size_bytes) for level in self.levels if level.tier is tier for e in level.shelf.entries()]

    def unwatch(self, tier: Tier, watcher: Watcher) -> None:
        """Stop telling a watcher."""
        with self._lock:
            self._watchers[tier].remove(watcher)

    def where(self, keys: Sequence[bytes]) -> list[Tier | None]:
        """Return the fastest tier that holds each block."""
        levels = [level for level in self.sources if not level.resting]
        with self._lock:
            return [next((level.tier for level in levels if level.shelf.held(key)), None) for key in keys]

    def find(self, keys: Sequence[bytes], sizes: Sequence[int]) -> list[Found | None]:
        """Return where blocks of these sizes are held, pinned, and count the use of each."""
        levels = [level for level in self.sources if not level.resting]
        found: list[Found | None] = []
        with self._lock:
            for key, size_bytes in zip(keys, sizes, strict=True):
                self._uses.add(key)
                found.append(self._pin(levels, key, size_bytes))
            self._touch(keys)
        return found

    def find_elsewhere(
        self, keys: Sequence[bytes], sizes: Sequence[int], tried: Iterable[Tier], only: Tier | None = None
    ) -> list[Found | None]:
        """Return where else than in some tiers blocks are held, pinned; it is no further use of them."""
        levels = [one for one in self.sources if one.tier not in tried and only in (None, one.tier) and not one.resting]
        with self._lock:
            return [self._pin(levels, *one) for one in zip(keys, sizes, strict=True)]

    def touch(self, keys: Sequence[bytes]) -> None:
        """Note that the blocks of a prompt were used, the last of them the longest ago: it is of use to fewest."""
        with self._lock:
            self._touch(keys)

    def _touch(self, keys: Sequence[bytes]) -> None:
        for level in self.levels:  # peers decide themselves what they keep
            for key in reversed(keys):
                if key in level.shelf:
                    level.shelf.touch(key)

    def _pin(self, levels: Sequence[Source], key: bytes, size_bytes: int) -> Found | None:
        for level in levels:
            entry = level.shelf.held(key)
            if entry is not None and entry.size_bytes == size_bytes:
                entry.pins += 1
                return Found(level, entry)
        return None

    def sample(self, level: Source, most: int) -> list[Found]:
        """Return blocks of one tier, pinned, to measure it with; the first to be evicted, for they matter least."""
        with self._lock:
            if level.resting:
                return []
            entries = list(islice(level.shelf.entries(), most))
            for entry in entries:
                entry.pins += 1
            return [Found(level, entry) for entry in entries]

    def release(self, found: Sequence[Found]) -> None:
        """Unpin blocks; the slots of those that turned out damaged are free with their last pin."""
        with self._lock:
            for one in found:
                one.entry.pins -= 1
                if not one.entry.pins and not one.entry.held:
                    one.level.shelf.remove(one.entry)

    def read(self, found: Sequence[Found], into: Sequence[memoryview]) -> list[bool]:
        """Read pinned blocks of one tier; return which arrived as they were saved. Damaged ones are thrown away."""
        level = found[0].level
        stats = self.stats.tiers[level.tier]
        started = time.perf_counter()
        entries = [one.entry for one in found]
        summed = level.read(entries, into)
        arrived = [got == entry.checksum for got, entry in zip(summed, entries, strict=True)]
        moved = sum(entry.size_bytes for entry, good in zip(entries, arrived, strict=True) if good)
        unread = sum(got is None for got in summed)
        lost = [entry for entry, good in zip(entries, arrived, strict=True) if not good]
        with self._lock:
            stats.load_s += time.perf_counter() - started
            stats.loaded_bytes += moved
            stats.hits += sum(arrived)
            stats.faults += unread
            stats.damaged += len(lost) - unread
            if not level.resting:
                for entry in lost:
                    entry.held = False
                self._tell(level, lost, stored=False)
        if lost and not level.resting:
            level.discard(lost)
        return arrived

    def used(self, key: bytes) -> int:
        """Return how often a block was used of late."""
        with self._lock:
            return self._uses.of(key)

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
        entries, victims = self._take(level, keys, blocks, depth)
        if victims:
            self._sink(level, victims, depth)
            level.discard(victims)
        places = [i for i, entry in enumerate(entries) if entry is not None]
        taken = [entry for entry in entries if entry is not None]
        if taken:
            self._write(level, taken, [blocks[i] for i in places], [given[i] for i in places])
        if depth and self._writing is Writing.THROUGH:
            self._copy_down(depth, keys)
        with self._lock:
            return [level.shelf.held(key) is not None for key in keys]

    def promote(self, keys: Sequence[bytes], blocks: Sequence[memoryview], checksums: Sequence[int | None]) -> None:
        """Copy blocks that came from below to the top tier."""
        held = self.put(keys, blocks, checksums)
        with self._lock:
            self.stats.tiers[self.levels[0].tier].promoted += sum(held)

    def copy_down(self, keys: Sequence[bytes]) -> None:
        """Copy blocks that have become worth it to the tiers below, where these are written through."""
        if self._writing is Writing.THROUGH:
            for depth in range(len(self.levels) - 1):
                self._copy_down(depth, keys)

    def worth_copying(self, key: bytes) -> bool:
        """Return whether `copy_down` would have something to do for a block."""
        if self._writing is not Writing.THROUGH:
            return False
        with self._lock:
            return any(
                above.shelf.held(key) and self._worth(below, key)
                for above, below in zip(self.levels, self.levels[1:], strict=False)
            )

    def clear(self) -> int:
        """Forget every block, those that are being loaded once they are; return how many."""
        gone = 0
        for level in self.levels:
            with self._lock:
                entries = list(level.shelf.entries())
                for entry in entries:
                    entry.held = False
                self._tell(level, entries, stored=False)
            level.discard(entries)
            with self._lock:
                for entry in entries:
                    if not entry.pins:
                        level.shelf.remove(entry)
            gone += len(entries)
        return gone

    def count(self, **counts: int) -> None:
        """Add to counts of the whole store, by their names in StoreStats."""
        with self._lock:
            for name, number in counts.items():
                setattr(self.stats, name, getattr(self.stats, name) + number)

    def snapshot(self) -> StoreStats:
        """Return a copy of all counts, with what the tiers hold now."""
        with self._lock:
            for level in self.sources:
                tier = self.stats.tiers[level.tier]
                tier.blocks, tier.used_bytes = len(level.shelf), level.shelf.size_bytes
                tier.capacity_bytes = level.capacity_bytes
            return deepcopy(self.stats)

    def drain_events(self) -> list[TierEvent]:
        """Return what happened since the last call."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            return events

    def _take(
        self, level: Level, keys: Sequence[bytes], blocks: Sequence[memoryview], depth: int
    ) -> tuple[list[Entry | None], list[Entry]]:
        entries: list[Entry | None] = []
        victims: list[Entry] = []
        with self._lock:
            stats = self.stats.tiers[level.tier]
            self._touch(keys)  # none of them makes room for another
            for key, block in zip(keys, blocks, strict=True):
                if depth == 0:
                    self._uses.add(key)
                taken = None if level.resting else level.shelf.take(key, block.nbytes)
                entries.append(taken.entry if taken else None)
                if taken and taken.victim:
                    victims.append(taken.victim)
            stats.evicted += len(victims)
            self._tell(level, victims, stored=False)
        return entries, victims

    def _write(self, level: Level, entries: list[Entry], blocks: list[memoryview], given: list[int | None]) -> None:
        stats = self.stats.tiers[level.tier]
        started = time.perf_counter()
        summed = level.write(entries, blocks, given)
        with self._lock:
            stats.save_s += time.perf_counter() - started
            for entry, checksum in zip(entries, summed, strict=True):
                if checksum is None:
                    stats.faults += 1
                    level.shelf.remove(entry)
                else:
                    stats.saved_bytes += entry.size_bytes
                    level.shelf.settle(entry, checksum)
                    self._tell(level, [entry], stored=True)

    def _worth(self, level: Level, key: bytes) -> bool:
        return not level.resting and key not in level.shelf and self._uses.of(key) >= level.min_uses

    def _sink(self, level: Level, victims: Sequence[Entry], depth: int) -> None:
        """Write blocks that leave a tier to the one below, unless they are there or not worth it."""
        if depth + 1 == len(self.levels):
            return
        below = self.levels[depth + 1]
        with self._lock:
            worth = [entry for entry in victims if self._worth(below, entry.key)]
            self.stats.filtered += sum(entry.key not in below.shelf for entry in victims) - len(worth)
        self._write_below(level, worth, depth)

    def _copy_down(self, depth: int, keys: Sequence[bytes]) -> None:
        if depth + 1 == len(self.levels):
            return
        level, below = self.levels[depth], self.levels[depth + 1]
        pinned = []
        with self._lock:
            for key in dict.fromkeys(keys):
                entry = level.shelf.held(key)
                if entry is not None and self._worth(below, key):
                    entry.pins += 1
                    pinned.append(Found(level, entry))
        try:
            self._write_below(level, [one.entry for one in pinned], depth)
        finally:
            self.release(pinned)

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
        with self._lock:
            self.stats.tiers[self.levels[depth + 1].tier].demoted += sum(held)

    def _tell(self, level: Source, entries: Sequence[Entry], *, stored: bool) -> None:
        self._events.extend(TierEvent(level.tier, entry.key, stored) for entry in entries)
        for watcher in self._watchers.get(level.tier, ()):
            for entry in entries:
                watcher(entry.key, entry.size_bytes if stored else 0)
