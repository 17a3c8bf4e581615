"""What lies where: the blocks of all tiers, who uses them, and what is told of them, under one lock.

    on its way --settled--> held --pinned while it is read--> lost, evicted or cleared --last pin--> its slot is free

No bytes move here: `ladder` moves them, outside the lock, under pins.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

from tritium.kv.block import Tier
from tritium.kv.frequency import Frequency
from tritium.kv.level import Level, Source
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


@dataclass(frozen=True, slots=True)
class Placed:
    """Slots that blocks got in a tier, None for those that got none, and what was evicted for them."""

    entries: Sequence[Entry | None]
    victims: Sequence[Entry]


class Holdings:
    """What the tiers of one store hold; safe from many threads."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self.sources: list[Source] = list(levels)
        """Where blocks are read from, what is asked first in front: our own tiers, and peers."""
        self._levels = list(levels)
        self._lock = threading.Lock()
        self._uses = Frequency(max(level.shelf.slots for level in levels))
        self._events: deque[TierEvent] = deque(
            (TierEvent(level.tier, entry.key, stored=True) for level in levels for entry in level.shelf.entries()),
            _MOST_EVENTS,
        )
        self._stats = StoreStats({level.tier: TierStats() for level in levels})
        self._watchers: dict[Tier, list[Watcher]] = {}

    def add_source(self, source: Source) -> None:
        """Read from one more place."""
        with self._lock:
            self.sources.append(source)
            self.sources.sort(key=lambda one: list(Tier).index(one.tier))
            self._stats.tiers[source.tier] = TierStats()

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
            return [
                (e.key, e.size_bytes) for level in self._levels if level.tier is tier for e in level.shelf.entries()
            ]

    def unwatch(self, tier: Tier, watcher: Watcher) -> None:
        """Stop telling a watcher."""
        with self._lock:
            self._watchers[tier].remove(watcher)

    def where(self, keys: Sequence[bytes]) -> list[Tier | None]:
        """Return the fastest tier that holds each block."""
        sources = [source for source in self.sources if not source.resting]
        with self._lock:
            return [next((source.tier for source in sources if source.shelf.held(key)), None) for key in keys]

    def held(self, level: Level, keys: Sequence[bytes]) -> list[bool]:
        """Return which blocks one tier holds."""
        with self._lock:
            return [level.shelf.held(key) is not None for key in keys]

    def find(self, keys: Sequence[bytes], sizes: Sequence[int]) -> list[Found | None]:
        """Return where blocks of these sizes are held, pinned, and count the use of each."""
        sources = [source for source in self.sources if not source.resting]
        found: list[Found | None] = []
        with self._lock:
            for key, size_bytes in zip(keys, sizes, strict=True):
                self._uses.add(key)
                found.append(_pin(sources, key, size_bytes))
            self._touch(keys)
        return found

    def find_elsewhere(
        self, keys: Sequence[bytes], sizes: Sequence[int], tried: Iterable[Tier], only: Tier | None = None
    ) -> list[Found | None]:
        """Return where else than in some tiers blocks are held, pinned; it is no further use of them."""
        left = [one for one in self.sources if one.tier not in tried and only in (None, one.tier) and not one.resting]
        with self._lock:
            return [_pin(left, *one) for one in zip(keys, sizes, strict=True)]

    def find_worth(self, level: Level, below: Level, keys: Iterable[bytes]) -> list[Found]:
        """Return the blocks of a tier that are worth a copy in the one below, pinned."""
        pinned = []
        with self._lock:
            for key in dict.fromkeys(keys):
                entry = level.shelf.held(key)
                if entry is not None and self._worth(below, key):
                    entry.pins += 1
                    pinned.append(Found(level, entry))
        return pinned

    def sample(self, source: Source, most: int) -> list[Found]:
        """Return blocks of one tier, pinned, to measure it with; the first to be evicted, for they matter least."""
        with self._lock:
            if source.resting:
                return []
            entries = list(islice(source.shelf.entries(), most))
            for entry in entries:
                entry.pins += 1
            return [Found(source, entry) for entry in entries]

    def release(self, found: Sequence[Found]) -> None:
        """Unpin blocks; the slots of those that turned out damaged are free with their last pin."""
        with self._lock:
            for one in found:
                one.entry.pins -= 1
                if not one.entry.pins and not one.entry.held:
                    one.level.shelf.remove(one.entry)

    def touch(self, keys: Sequence[bytes]) -> None:
        """Note that the blocks of a prompt were used, the last of them the longest ago: it is of use to fewest."""
        with self._lock:
            self._touch(keys)

    def used(self, key: bytes) -> int:
        """Return how often a block was used of late."""
        with self._lock:
            return self._uses.of(key)

    def worth_a_copy(self, key: bytes) -> bool:
        """Return whether any tier above another holds a block that is worth a copy there."""
        with self._lock:
            return any(
                above.shelf.held(key) and self._worth(below, key)
                for above, below in zip(self._levels, self._levels[1:], strict=False)
            )

    def worth_keeping(self, victims: Sequence[Entry], below: Level) -> list[Entry]:
        """Return which of the blocks that leave a tier go to the one below; the others are counted as filtered."""
        with self._lock:
            worth = [entry for entry in victims if self._worth(below, entry.key)]
            self._stats.filtered += sum(entry.key not in below.shelf for entry in victims) - len(worth)
        return worth

    def take(self, level: Level, keys: Sequence[bytes], sizes: Sequence[int], *, use: bool) -> Placed:
        """Take slots for blocks on their way to a tier; `use` counts that as a use of each."""
        entries: list[Entry | None] = []
        victims: list[Entry] = []
        with self._lock:
            self._touch(keys)  # none of them makes room for another
            for key, size_bytes in zip(keys, sizes, strict=True):
                if use:
                    self._uses.add(key)
                taken = None if level.resting else level.shelf.take(key, size_bytes)
                entries.append(taken.entry if taken else None)
                if taken and taken.victim:
                    victims.append(taken.victim)
            self._stats.tiers[level.tier].evicted += len(victims)
            self._tell(level, victims, stored=False)
        return Placed(entries, victims)

    def settle(self, level: Level, entries: Sequence[Entry], summed: Sequence[int | None], seconds: float) -> None:
        """Take in what was written to slots, by its checksums; None for what could not be."""
        with self._lock:
            stats = self._stats.tiers[level.tier]
            stats.save_s += seconds
            for entry, checksum in zip(entries, summed, strict=True):
                if checksum is None:
                    stats.faults += 1
                    level.shelf.remove(entry)
                else:
                    stats.saved_bytes += entry.size_bytes
                    level.shelf.settle(entry, checksum)
                    self._tell(level, [entry], stored=True)

    def settle_read(
        self, source: Source, entries: Sequence[Entry], arrived: Sequence[bool], *, unread: int, seconds: float
    ) -> list[Entry]:
        """Take in which pinned blocks were read as they were saved; return those that are held no more for it."""
        lost = [entry for entry, good in zip(entries, arrived, strict=True) if not good]
        with self._lock:
            stats = self._stats.tiers[source.tier]
            stats.load_s += seconds
            stats.loaded_bytes += sum(entry.size_bytes for entry, good in zip(entries, arrived, strict=True) if good)
            stats.hits += sum(arrived)
            stats.faults += unread
            stats.damaged += len(lost) - unread
            if source.resting:
                return []
            for entry in lost:
                entry.held = False
            self._tell(source, lost, stored=False)
        return lost

    def lose_all(self, level: Level) -> list[Entry]:
        """Hold nothing of a tier any more; return what that was, whose slots are taken until `remove`."""
        with self._lock:
            entries = list(level.shelf.entries())
            for entry in entries:
                entry.held = False
            self._tell(level, entries, stored=False)
        return entries

    def remove(self, level: Level, entries: Iterable[Entry]) -> None:
        """Free the slots of blocks that are lost, but for those being read, which `release` frees."""
        with self._lock:
            for entry in entries:
                if not entry.pins:
                    level.shelf.remove(entry)

    def count(self, **counts: int) -> None:
        """Add to counts of the whole store, by their names in StoreStats."""
        with self._lock:
            for name, number in counts.items():
                setattr(self._stats, name, getattr(self._stats, name) + number)

    def count_moved(self, tier: Tier, *, promoted: int = 0, demoted: int = 0) -> None:
        """Count blocks that came to a tier from another."""
        with self._lock:
            stats = self._stats.tiers[tier]
            stats.promoted += promoted
            stats.demoted += demoted

    def snapshot(self) -> StoreStats:
        """Return a copy of all counts, with what the tiers hold now."""
        with self._lock:
            for source in self.sources:
                tier = self._stats.tiers[source.tier]
                tier.blocks, tier.used_bytes = len(source.shelf), source.shelf.size_bytes
                tier.capacity_bytes = source.capacity_bytes
            return deepcopy(self._stats)

    def drain_events(self) -> list[TierEvent]:
        """Return what happened since the last call."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            return events

    def _touch(self, keys: Sequence[bytes]) -> None:
        for level in self._levels:  # peers decide themselves what they keep
            for key in reversed(keys):
                if key in level.shelf:
                    level.shelf.touch(key)

    def _worth(self, level: Level, key: bytes) -> bool:
        return not level.resting and key not in level.shelf and self._uses.of(key) >= level.min_uses

    def _tell(self, source: Source, entries: Sequence[Entry], *, stored: bool) -> None:
        self._events.extend(TierEvent(source.tier, entry.key, stored) for entry in entries)
        for watcher in self._watchers.get(source.tier, ()):
            for entry in entries:
                watcher(entry.key, entry.size_bytes if stored else 0)


def _pin(sources: Sequence[Source], key: bytes, size_bytes: int) -> Found | None:
    for source in sources:
        entry = source.shelf.held(key)
        if entry is not None and entry.size_bytes == size_bytes:
            entry.pins += 1
            return Found(source, entry)
    return None
