"""Blocks of KV below the device, in one store a worker process: save, load, and what it would cost.

    save --copy--> top tier (done) --in the background--> lower tiers
    load --pin--> read, tier by tier, in parts --checksum--> done

Every call is safe from any thread and returns at once; bytes are moved by the store's own threads. What cannot be
moved is reported, block by block, and the caller computes it: the store never makes an engine wait and never hands
out bytes that are not the saved ones.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from tritium.core.errors import InvalidArgument
from tritium.kv.advice import Advice, Advisor
from tritium.kv.background import Background
from tritium.kv.block import Namespace, Tier
from tritium.kv.budget import Budget
from tritium.kv.holdings import TierEvent
from tritium.kv.ladder import Ladder
from tritium.kv.loading import Loading
from tritium.kv.measuring import Measuring
from tritium.kv.opening import open_levels
from tritium.kv.settings import StoreSettings
from tritium.kv.stats import StoreStats
from tritium.kv.transfer import Transfer, in_parts

if TYPE_CHECKING:
    from tritium.kv.peers.tier import PeerState, PeerTier

_LOG = logging.getLogger(__name__)


class BlockStore:
    """The tiers of one process."""

    def __init__(self, settings: StoreSettings, block_tokens: int = 1) -> None:
        """Open every tier, finding again what disk and object store hold.

        Raises InvalidArgument for settings that cannot work, Unavailable for a directory that another store has open.
        """
        self.settings = settings
        self._ladder = Ladder(open_levels(settings), settings.writing)
        self._holdings = self._ladder.holdings
        self.advisor = Advisor(settings.block_bytes, block_tokens)
        self._background = Background(settings.save_threads, "kv-save")
        self._saves = Budget(settings.save_bytes_in_flight)
        self._measuring = Measuring(self._holdings, self.advisor, self._background, settings.measure_every_s)
        self._loading = Loading(
            self._ladder,
            self._measuring,
            self._background,
            threads=settings.load_threads,
            loads=Budget(settings.load_bytes_in_flight),
            saves=self._saves,
        )
        self._lock = threading.Lock()
        self._closed = False
        self._peers: PeerTier | None = None
        try:
            self._list_objects()
            self._open_peers()
        except BaseException:
            self.close()
            raise
        for note in self.notes():
            _LOG.warning(note)
        self._measuring.measure()

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
        return self._holdings.where(keys)

    def longest(self, keys: Sequence[bytes]) -> int:
        """Return how many blocks from the first on are held without a gap."""
        held = self.hold(keys)
        return held.index(None) if None in held else len(held)

    def load(self, keys: Sequence[bytes], into: Sequence[memoryview]) -> Transfer:
        """Begin to copy blocks into the caller's memory, which must have each block's exact size."""
        transfer = Transfer(len(keys))
        found = self._holdings.find(keys, [target.nbytes for target in into])
        misses = found.count(None)
        begun = self._loading.begin(transfer, found, into)
        self._holdings.count(misses=misses, refused_loads=0 if begun else len(keys) - misses)
        return transfer

    def save(self, keys: Sequence[bytes], blocks: Sequence[memoryview]) -> Transfer:
        """Begin to copy blocks into the top tier; those held already count as saved.

        `blocks` must not change before the transfer is done.
        """
        transfer = Transfer(len(keys))
        if self._closed or not self._saves.take(sum(block.nbytes for block in blocks)):
            transfer.fail(range(len(keys)))
            transfer.begin(0)
            self._holdings.count(dropped_saves=len(keys))
            return transfer
        parts = in_parts([block.nbytes for block in blocks])
        transfer.on_done(partial(self._holdings.touch, keys))
        transfer.begin(len(parts))
        for part in parts:
            self._background.run(partial(self._save_part, transfer, part, keys, blocks))
        return transfer

    def advise(self, prompt_tokens: int, held: Sequence[Tier | None]) -> Advice:
        """Return how many leading blocks of a prompt to load, given where `hold` found them."""
        leading = [tier for tier in held[: list(held).index(None) if None in held else len(held)] if tier]
        advice = self._measuring.advise(prompt_tokens, leading)
        if leading:
            self._holdings.count(advised_onboard=advice.onboard, advised_recompute=not advice.onboard)
            self._measuring.measure()
        return advice

    def learn_prefill(self, tokens: int, seconds: float) -> None:
        """Take in how long the engine took to compute a prompt of so many tokens, for `advise`."""
        self._measuring.learn_prefill(tokens, seconds)

    def events(self) -> list[TierEvent]:
        """Return the blocks that came to tiers and left them since the last call; at first, what a restart found."""
        return self._holdings.drain_events()

    def stats(self) -> StoreStats:
        """Return all counts."""
        stats = self._holdings.snapshot()
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
        return self._background.settle(timeout_s)

    def close(self) -> None:
        """Finish what is under way and let go of all tiers; disk and object store keep what they hold."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._measuring.close()
        if self._peers is not None:
            self._peers.close()
        self._loading.close()
        self._background.close()
        for level in self._ladder.levels:
            level.close()

    def _list_objects(self) -> None:
        """Begin to find out what an object store holds; `settle` waits for the first time."""
        if self.settings.objects is None:
            return
        from tritium.kv.objects import ObjectTier  # noqa: PLC0415  (what is not used is not imported)

        for level in self._ladder.levels:
            if isinstance(level, ObjectTier):
                self._background.begin()
                level.follow(self._holdings.update, self._listed)

    def _listed(self) -> None:
        self._background.end()
        self._measuring.measure()

    def _open_peers(self) -> None:
        if self.settings.peers is None:
            return
        from tritium.kv.host import HostTier  # noqa: PLC0415  (what is not used is not imported)
        from tritium.kv.peers.tier import PeerTier  # noqa: PLC0415

        host = next((level for level in self._ladder.levels if isinstance(level, HostTier)), None)
        block_bytes = self.settings.block_bytes
        self._peers = PeerTier(self.settings.peers, block_bytes, self._holdings, host, self._measuring.measure)
        self._holdings.add_source(self._peers)
        self._measuring.ordering = True

    def _save_part(
        self, transfer: Transfer, places: list[int], keys: Sequence[bytes], blocks: Sequence[memoryview]
    ) -> None:
        failed = places
        part_keys = [keys[i] for i in places]
        try:
            if not transfer.abandoned:
                held = self._ladder.put(part_keys, [blocks[i] for i in places])
                failed = [place for place, good in zip(places, held, strict=True) if not good]
                self._holdings.count(dropped_saves=len(failed))
        finally:
            transfer.part_done(failed)
            try:
                if len(failed) < len(places):
                    self._ladder.copy_down(part_keys)
                    self._measuring.measure()
            finally:
                self._saves.give(sum(blocks[i].nbytes for i in places))
