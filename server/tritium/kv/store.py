"""Blocks of KV below the device, in one store a worker process: save, load, and what it would cost.

    save --copy--> top tier (done) --in the background--> lower tiers
    load --pin--> read, tier by tier, in parts --checksum--> done

Every call is safe from any thread and returns at once; bytes are moved by the store's own threads. What cannot be
moved is reported, block by block, and the caller computes it: the store never makes an engine wait and never hands
out bytes that are not the saved ones.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from tritium.core.errors import InvalidArgument
from tritium.kv.advice import Advice, Advisor
from tritium.kv.block import Namespace, Tier, tenant_digest
from tritium.kv.ladder import Found, Ladder, TierEvent
from tritium.kv.level import Level, Source
from tritium.kv.settings import StoreSettings
from tritium.kv.shelf import Shares
from tritium.kv.stats import StoreStats
from tritium.kv.transfer import Transfer

if TYPE_CHECKING:
    from tritium.kv.host import HostTier
    from tritium.kv.peers.tier import PeerState, PeerTier

_LOG = logging.getLogger(__name__)
_PART_BYTES = 8 << 20
# Saved, loaded, and loaded again: from then on a block is copied to the top tier when it is loaded from below.
_PROMOTED_AFTER = 3
# So many blocks are read of a tier that was not loaded from for a while: two sizes make a line.
_MEASURED_WITH = (1, 4)


class BlockStore:
    """The tiers of one process."""

    def __init__(self, settings: StoreSettings, block_tokens: int = 1) -> None:
        """Open every tier, finding again what disk and object store hold.

        Raises InvalidArgument for settings that cannot work, Unavailable for a directory that another store has open.
        """
        self.settings = settings
        host, levels = _open_levels(settings)
        self._ladder = Ladder(levels, settings.writing)
        self.advisor = Advisor(settings.block_bytes, block_tokens)
        self._loaders = ThreadPoolExecutor(settings.load_threads, "kv-load")
        self._savers = ThreadPoolExecutor(settings.save_threads, "kv-save")
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._loading_bytes = 0
        self._saving_bytes = 0
        self._in_background = 0
        self._closed = False
        self._measuring = False
        self._loaded_at: dict[Tier, float] = {}
        self._peers: PeerTier | None = None
        try:
            if settings.objects is not None:
                self._list_objects()
            self._open_peers(host)
        except BaseException:
            self.close()
            raise
        for note in self.notes():
            _LOG.warning(note)
        self._measure_others()

    def __enter__(self) -> Self:
        """Return the store, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def peer_address(self) -> str:
        """Return where peers read our host tier; empty where they do not."""
        return self._peers.address if self._peers else ""

    def meet(self, addresses: Iterable[str]) -> None:
        """Look for peers at more addresses (HOST:PORT); InvalidArgument for what is none."""
        if self._peers is None:
            raise InvalidArgument("this store was opened without peers", "give StoreSettings.peers")
        self._peers.meet(addresses)

    def peers(self) -> list["PeerState"]:
        """Return every peer that is known, what it holds, and how its blocks come."""
        return self._peers.peers() if self._peers else []

    def notes(self) -> list[str]:
        """Return what an operator should know of the tiers as they were opened; each is logged once as well."""
        notes = [note for level in self._ladder.levels for note in level.notes]
        return notes + ([self._peers.because] if self._peers and self._peers.because else [])

    def namespace(self, namespace: Namespace, block_hashes: Sequence[bytes]) -> list[bytes]:
        """Return the keys of blocks by their chained hashes."""
        prefix = namespace.prefix
        return [prefix + block_hash for block_hash in block_hashes]

    def hold(self, keys: Sequence[bytes]) -> list[Tier | None]:
        """Return the fastest tier that holds each block now; from memory, nothing is read."""
        return self._ladder.where(keys)

    def longest(self, keys: Sequence[bytes]) -> int:
        """Return how many blocks from the first on are held without a gap."""
        held = self.hold(keys)
        return held.index(None) if None in held else len(held)

    def load(self, keys: Sequence[bytes], into: Sequence[memoryview]) -> Transfer:
        """Begin to copy blocks into the caller's memory, which must have each block's exact size."""
        transfer = Transfer(len(keys))
        found = self._ladder.find(keys, [target.nbytes for target in into])
        size_bytes = sum(one.entry.size_bytes for one in found if one)
        with self._lock:
            refused = self._closed or self._loading_bytes + size_bytes > self.settings.load_bytes_in_flight
            if not refused:
                self._loading_bytes += size_bytes
        missing = [i for i, one in enumerate(found) if one is None]
        if refused:
            self._ladder.release([one for one in found if one])
            transfer.fail(range(len(keys)))
            transfer.begin(0)
        else:
            transfer.fail(missing)
            self._begin_load(transfer, found, into)
        self._ladder.count(misses=len(missing), refused_loads=len(keys) - len(missing) if refused else 0)
        return transfer

    def save(self, keys: Sequence[bytes], blocks: Sequence[memoryview]) -> Transfer:
        """Begin to copy blocks into the top tier; those held already count as saved.

        `blocks` must not change before the transfer is done.
        """
        transfer = Transfer(len(keys))
        size_bytes = sum(block.nbytes for block in blocks)
        with self._lock:
            refused = self._closed or self._saving_bytes + size_bytes > self.settings.save_bytes_in_flight
            if not refused:
                self._saving_bytes += size_bytes
        if refused:
            transfer.fail(range(len(keys)))
            transfer.begin(0)
            self._ladder.count(dropped_saves=len(keys))
            return transfer
        parts = _parts([block.nbytes for block in blocks])
        transfer.on_done(partial(self._ladder.touch, keys))
        transfer.begin(len(parts))
        for part in parts:
            self._in_the_background(partial(self._save_part, transfer, part, keys, blocks))
        return transfer

    def advise(self, prompt_tokens: int, held: Sequence[Tier | None]) -> Advice:
        """Return how many leading blocks of a prompt to load, given where `hold` found them."""
        leading = [tier for tier in held[: list(held).index(None) if None in held else len(held)] if tier]
        with self._lock:
            advice = self.advisor.advise(prompt_tokens, leading)
        if leading:
            self._ladder.count(advised_onboard=advice.onboard, advised_recompute=not advice.onboard)
            self._measure_others()
        return advice

    def learn_prefill(self, tokens: int, seconds: float) -> None:
        """Take in how long the engine took to compute a prompt of so many tokens, for `advise`."""
        with self._lock:
            self.advisor.learn_prefill(tokens, seconds)

    def events(self) -> list[TierEvent]:
        """Return the blocks that came to tiers and left them since the last call; at first, what a restart found."""
        return self._ladder.drain_events()

    def stats(self) -> StoreStats:
        """Return all counts."""
        stats = self._ladder.snapshot()
        if self._peers is not None:
            served = self._peers.served
            stats.peers = sum(peer.following for peer in self._peers.peers())
            stats.served_blocks, stats.served_bytes = served.blocks, served.size_bytes
            stats.expired_leases = served.expired
        return stats

    def clear(self) -> int:
        """Throw away every block in all tiers; return how many."""
        return self._ladder.clear()

    def settle(self, timeout_s: float) -> bool:
        """Wait until what was saved has also reached the lower tiers, and what those held is known; return if so."""
        with self._settled:
            return self._settled.wait_for(lambda: not self._in_background, timeout_s)

    def close(self) -> None:
        """Finish what is under way and let go of all tiers; disk and object store keep what they hold."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._peers is not None:
            self._peers.close()
        self._loaders.shutdown()
        self._savers.shutdown()
        for level in self._ladder.levels:
            level.close()

    def _list_objects(self) -> None:
        """Begin to find out what an object store holds; `settle` waits for the first time."""
        from tritium.kv.objects import ObjectTier  # noqa: PLC0415

        for level in self._ladder.levels:
            if isinstance(level, ObjectTier):
                with self._lock:
                    self._in_background += 1
                level.follow(self._ladder.update, self._listed)

    def _listed(self) -> None:
        self._ended()
        self._measure_others()

    def _open_peers(self, host: "HostTier | None") -> None:
        if self.settings.peers is None:
            return
        from tritium.kv.peers.tier import PeerTier  # noqa: PLC0415  (what is not used is not imported)

        block_bytes = self.settings.block_bytes
        self._peers = PeerTier(self.settings.peers, block_bytes, self._ladder, host, self._measure_others)
        self._ladder.add_source(self._peers)

    def _in_the_background(self, work: Callable[[], object]) -> None:
        with self._lock:
            self._in_background += 1
        try:
            self._savers.submit(self._run, work)
        except RuntimeError:
            self._ended()
            raise

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        finally:
            self._ended()

    def _ended(self) -> None:
        with self._settled:
            self._in_background -= 1
            self._settled.notify_all()

    def _measure_others(self) -> None:
        """Begin to read some blocks of tiers that were not loaded from of late, beside what is asked for."""
        since = time.monotonic() - self.settings.measure_every_s
        held = [source.tier for source in self._ladder.sources if len(source.shelf)]
        with self._lock:
            tiers = {tier for tier in held if self._loaded_at.get(tier, float("-inf")) < since}
            if not tiers or self._measuring or self._closed:
                return
            self._measuring = True
        with suppress(RuntimeError):  # the store is being closed: nobody will ask
            self._in_the_background(partial(self._measure_now, tiers))

    def _measure_now(self, tiers: set[Tier]) -> None:
        try:
            for level in list(self._ladder.sources):
                for blocks in _MEASURED_WITH if level.tier in tiers else ():
                    self._measure_once(level, blocks)
        finally:
            with self._lock:
                self._measuring = False

    def _measure_once(self, level: Source, blocks: int) -> None:
        found = self._ladder.sample(level, blocks)
        try:
            entries = [one.entry for one in found]
            into = [memoryview(bytearray(entry.size_bytes)) for entry in entries]
            started = time.perf_counter()
            read = level.read(entries, into) if entries else [None]
            seconds = time.perf_counter() - started
        finally:
            self._ladder.release(found)
        if None not in read:
            self._learn_load(level.tier, sum(entry.size_bytes for entry in entries), seconds)

    def _learn_load(self, tier: Tier, size_bytes: int, seconds: float) -> None:
        with self._lock:
            self.advisor.learn_load(tier, size_bytes, seconds)
            self._loaded_at[tier] = time.monotonic()
            order = self.advisor.fastest_first()
        if self._peers is not None:  # of our own tiers it is known which is below which
            self._ladder.order(order)

    def _begin_load(self, transfer: Transfer, found: Sequence[Found | None], into: Sequence[memoryview]) -> None:
        groups: dict[Tier, list[int]] = {}
        for place, one in enumerate(found):
            if one is not None:
                groups.setdefault(one.level.tier, []).append(place)
        parts = []
        for tier, places in groups.items():
            sizes = [into[place].nbytes for place in places]
            group = _Group(tier, sum(sizes), time.perf_counter())
            cut = [[places[i] for i in part] for part in _parts(sizes, self.settings.load_threads)]
            group.parts = len(cut)
            parts += [(group, part) for part in cut]
        transfer.begin(len(parts))
        for group, part in parts:
            pinned = [one for place in part if (one := found[place])]
            targets = [into[place] for place in part]
            self._loaders.submit(self._load_part, transfer, group, part, pinned, targets)

    def _load_part(
        self, transfer: Transfer, group: "_Group", places: list[int], found: list[Found], into: list[memoryview]
    ) -> None:
        failed = places
        rising: Callable[[], object] | None = None
        try:
            if not transfer.abandoned:
                arrived = self._ladder.read(found, into)
                rising = self._after_load(found, into, arrived)
                missing = [i for i, good in enumerate(arrived) if not good]
                if missing:
                    missing = self._load_elsewhere(found, into, missing)
                failed = [places[i] for i in missing]
        finally:
            self._ladder.release(found)
            self._ladder.count(misses=len(failed))
            with self._lock:
                self._loading_bytes -= sum(one.entry.size_bytes for one in found)
                group.parts -= 1
                group.failed |= bool(failed)
                whole = not group.parts and not group.failed
            if whole:
                self._learn_load(group.tier, group.size_bytes, time.perf_counter() - group.started)
            transfer.part_done(failed)
        if rising is not None:
            with suppress(RuntimeError):  # the pool was shut down meanwhile: blocks stay where they are
                self._in_the_background(rising)

    def _load_elsewhere(self, found: list[Found], into: list[memoryview], missing: list[int]) -> list[int]:
        """Load what a tier failed to give from others that hold it too; return what none of them gave."""
        tried = {found[missing[0]].level.tier}
        while missing:
            keys = [found[i].entry.key for i in missing]
            again = self._ladder.find_elsewhere(keys, [into[i].nbytes for i in missing], tried)
            by_tier: dict[Tier, list[int]] = {}
            for place, one in enumerate(again):
                if one is not None:
                    by_tier.setdefault(one.level.tier, []).append(place)
            if not by_tier:
                return missing
            arrived: set[int] = set()
            try:
                for places in by_tier.values():
                    pinned = [one for place in places if (one := again[place])]
                    good = self._ladder.read(pinned, [into[missing[place]] for place in places])
                    arrived.update(missing[place] for place, ok in zip(places, good, strict=True) if ok)
            finally:
                self._ladder.release([one for one in again if one])
            tried.update(by_tier)
            missing = [i for i in missing if i not in arrived]
        return missing

    def _after_load(
        self, found: list[Found], into: list[memoryview], arrived: list[bool]
    ) -> Callable[[], object] | None:
        """Return what is left to do with loaded blocks: copy them up, or down, now that they are used more."""
        good = [i for i, ok in enumerate(arrived) if ok]
        top = self._ladder.levels[0]
        if found[0].level is top:
            keys = [found[i].entry.key for i in good]
            worth = [key for key in keys if self._ladder.worth_copying(key)]
            return partial(self._ladder.copy_down, worth) if worth else None
        often = [i for i in good if self._ladder.used(found[i].entry.key) >= _PROMOTED_AFTER]
        size_bytes = sum(into[i].nbytes for i in often)
        with self._lock:
            if not often or self._saving_bytes + size_bytes > self.settings.save_bytes_in_flight:
                return None
            self._saving_bytes += size_bytes
        # The caller's memory is its own again as soon as the load is done, so what rises is copied first.
        copies = [np.array(np.frombuffer(into[i], np.uint8)).data for i in often]
        keys = [found[i].entry.key for i in often]
        return partial(self._promote, keys, copies, [found[i].entry.checksum for i in often])

    def _promote(self, keys: list[bytes], blocks: list[memoryview], checksums: list[int | None]) -> None:
        try:
            self._ladder.promote(keys, blocks, checksums)
        finally:
            self._saved(blocks)

    def _saved(self, blocks: Iterable[memoryview]) -> None:
        with self._lock:
            self._saving_bytes -= sum(block.nbytes for block in blocks)

    def _save_part(
        self, transfer: Transfer, places: list[int], keys: Sequence[bytes], blocks: Sequence[memoryview]
    ) -> None:
        failed = places
        part_keys = [keys[i] for i in places]
        try:
            if not transfer.abandoned:
                held = self._ladder.put(part_keys, [blocks[i] for i in places])
                failed = [place for place, good in zip(places, held, strict=True) if not good]
                self._ladder.count(dropped_saves=len(failed))
        finally:
            transfer.part_done(failed)
            try:
                if len(failed) < len(places):
                    self._ladder.copy_down(part_keys)
                    self._measure_others()
            finally:
                self._saved(blocks[i] for i in places)


class _Group:
    """The parts of one load from one tier, timed together."""

    def __init__(self, tier: Tier, size_bytes: int, started: float) -> None:
        self.tier = tier
        self.size_bytes = size_bytes
        self.started = started
        self.parts = 0
        self.failed = False


def _parts(sizes: Sequence[int], threads: int = 1) -> list[list[int]]:
    """Return the places of blocks in parts of some MiB, and as many parts as there are threads where that goes."""
    most = max(1, min(_PART_BYTES, -(-sum(sizes) // max(1, threads))))
    parts: list[list[int]] = []
    filled = most
    for place, size_bytes in enumerate(sizes):
        if filled >= most:
            parts.append([])
            filled = 0
        parts[-1].append(place)
        filled += size_bytes
    return parts


def _open_levels(settings: StoreSettings) -> "tuple[HostTier | None, list[Level]]":
    by_tenant = {tenant_digest(name): share for name, share in settings.tenant_shares.items()}
    shares = Shares(settings.tenant_share, by_tenant)
    levels: list[Level] = []
    host = None
    try:
        if settings.host is not None:
            from tritium.kv.host import HostTier  # noqa: PLC0415  (a tier that is not used is not imported)

            host = HostTier(settings.host, settings.block_bytes, shares)
            levels.append(host)
        if settings.disk is not None:
            from tritium.kv.disk import DiskTier  # noqa: PLC0415

            levels.append(DiskTier(settings.disk, settings.block_bytes, shares))
        if settings.objects is not None:
            from tritium.kv.objects import ObjectTier  # noqa: PLC0415

            levels.append(ObjectTier(settings.objects, settings.block_bytes, shares))
    except BaseException:
        for level in levels:
            level.close()
        raise
    return host, levels
