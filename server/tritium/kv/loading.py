"""One load, from blocks that were found to bytes in the caller's memory.

    found --by tier, in parts--> read --missing--> read from other tiers --missing--> failed
                                   `--used often--> copied to the top tier, in the background

All threads of a store's loads share one budget of bytes; what rises afterwards counts as being saved.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import numpy as np

from tritium.kv.background import Background
from tritium.kv.block import Tier
from tritium.kv.budget import Budget
from tritium.kv.holdings import Found
from tritium.kv.ladder import Ladder
from tritium.kv.measuring import Measuring
from tritium.kv.transfer import Transfer, in_parts

# Saved, loaded, and loaded again: from then on a block is copied to the top tier when it is loaded from below.
_PROMOTED_AFTER = 3


class Loading:
    """The threads that load, and what is to be done with blocks once they are there."""

    def __init__(
        self,
        ladder: Ladder,
        measuring: Measuring,
        background: Background,
        *,
        threads: int,
        loads: Budget,
        saves: Budget,
    ) -> None:
        self._ladder = ladder
        self._holdings = ladder.holdings
        self._measuring = measuring
        self._background = background
        self._loads = loads
        self._saves = saves
        self._thread_count = threads
        self._threads = ThreadPoolExecutor(threads, "kv-load")
        self._closed = False

    def begin(self, transfer: Transfer, found: Sequence[Found | None], into: Sequence[memoryview]) -> bool:
        """Begin to read what was found, pinned, which is given back; return whether there was room for so much."""
        pinned = [one for one in found if one]
        if self._closed or not self._loads.take(sum(one.entry.size_bytes for one in pinned)):
            self._holdings.release(pinned)
            transfer.fail(range(transfer.blocks))
            transfer.begin(0)
            return False
        transfer.fail(place for place, one in enumerate(found) if one is None)
        parts = []
        for tier, places in _by_tier(found).items():
            sizes = [into[place].nbytes for place in places]
            group = _Group(tier, sum(sizes), time.perf_counter())
            cut = [[places[i] for i in part] for part in in_parts(sizes, self._thread_count)]
            group.parts = len(cut)
            parts += [(group, part) for part in cut]
        transfer.begin(len(parts))
        for group, part in parts:
            of_part = [one for place in part if (one := found[place])]
            self._threads.submit(self._load, transfer, group, part, of_part, [into[place] for place in part])
        return True

    def close(self) -> None:
        """Finish what is under way and refuse the rest."""
        self._closed = True
        self._threads.shutdown()

    def _load(
        self, transfer: Transfer, group: "_Group", places: list[int], found: list[Found], into: list[memoryview]
    ) -> None:
        failed = places
        rising: Callable[[], object] | None = None
        try:
            if not transfer.abandoned:
                arrived = self._ladder.read(found, into)
                rising = self._after(found, into, arrived)
                missing = [i for i, good in enumerate(arrived) if not good]
                if missing:
                    missing = self._load_elsewhere(found, into, missing)
                failed = [places[i] for i in missing]
        finally:
            self._holdings.release(found)
            self._holdings.count(misses=len(failed))
            self._loads.give(sum(one.entry.size_bytes for one in found))
            if group.part_done(whole=not failed):
                self._measuring.learn_load(group.tier, group.size_bytes, time.perf_counter() - group.started)
            transfer.part_done(failed)
        if rising is not None:
            with suppress(RuntimeError):  # the pool was shut down meanwhile: blocks stay where they are
                self._background.run(rising)

    def _load_elsewhere(self, found: list[Found], into: list[memoryview], missing: list[int]) -> list[int]:
        """Load what a tier failed to give from others that hold it too; return what none of them gave."""
        tried = {found[missing[0]].level.tier}
        while missing:
            keys = [found[i].entry.key for i in missing]
            again = self._holdings.find_elsewhere(keys, [into[i].nbytes for i in missing], tried)
            by_tier = _by_tier(again)
            if not by_tier:
                return missing
            arrived: set[int] = set()
            try:
                for places in by_tier.values():
                    pinned = [one for place in places if (one := again[place])]
                    good = self._ladder.read(pinned, [into[missing[place]] for place in places])
                    arrived.update(missing[place] for place, ok in zip(places, good, strict=True) if ok)
            finally:
                self._holdings.release([one for one in again if one])
            tried.update(by_tier)
            missing = [i for i in missing if i not in arrived]
        return missing

    def _after(self, found: list[Found], into: list[memoryview], arrived: list[bool]) -> Callable[[], object] | None:
        """Return what is left to do with loaded blocks: copy them up, or down, now that they are used more."""
        good = [i for i, ok in enumerate(arrived) if ok]
        top = self._ladder.levels[0]
        if found[0].level is top:
            keys = [found[i].entry.key for i in good]
            worth = [key for key in keys if self._ladder.worth_copying(key)]
            return partial(self._ladder.copy_down, worth) if worth else None
        often = [i for i in good if self._holdings.used(found[i].entry.key) >= _PROMOTED_AFTER]
        if not often or not self._saves.take(sum(into[i].nbytes for i in often)):
            return None
        # The caller's memory is its own again as soon as the load is done, so what rises is copied first.
        copies = [np.array(np.frombuffer(into[i], np.uint8)).data for i in often]
        keys = [found[i].entry.key for i in often]
        return partial(self._promote, keys, copies, [found[i].entry.checksum for i in often])

    def _promote(self, keys: list[bytes], blocks: list[memoryview], checksums: list[int | None]) -> None:
        try:
            self._ladder.promote(keys, blocks, checksums)
        finally:
            self._saves.give(sum(block.nbytes for block in blocks))


class _Group:
    """The parts of one load from one tier, timed together."""

    def __init__(self, tier: Tier, size_bytes: int, started: float) -> None:
        self.tier = tier
        self.size_bytes = size_bytes
        self.started = started
        self.parts = 0
        self._failed = False
        self._lock = threading.Lock()

    def part_done(self, *, whole: bool) -> bool:
        """Count a part as over; return whether it was the last, and all parts arrived whole."""
        with self._lock:
            self.parts -= 1
            self._failed |= not whole
            return not self.parts and not self._failed


def _by_tier(found: Sequence[Found | None]) -> dict[Tier, list[int]]:
    places: dict[Tier, list[int]] = {}
    for place, one in enumerate(found):
        if one is not None:
            places.setdefault(one.level.tier, []).append(place)
    return places
