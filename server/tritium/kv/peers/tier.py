"""The tier of peers: finds them, keeps a link to each, and reads blocks from whichever holds them.

Our own host tier is offered to them in turn. A peer that fails in the middle of a read is left alone for a while; its
blocks are asked of another one, and of the tiers below by the ladder.
"""

import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritium.core.errors import InvalidArgument
from tritium.kv.agent import Agent, Kind, Piece, address_of
from tritium.kv.block import Tier
from tritium.kv.holdings import Holdings
from tritium.kv.host import HostTier
from tritium.kv.peers.directory import Directory
from tritium.kv.peers.link import Link
from tritium.kv.peers.meeting import Notice, addresses_at
from tritium.kv.peers.paths import Reader
from tritium.kv.peers.serving import Served, Serving
from tritium.kv.peers.wire import Welcome
from tritium.kv.settings import PeerSettings, split_address
from tritium.kv.shelf import Entry

_LOOK_EVERY_S = 5.0
_TRIES = 2  # so many peers are asked for one block
_STORE_BYTES = 16


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer, for an operator."""

    address: str
    following: bool
    blocks: int
    because: str


class PeerTier:
    """Blocks in other workers' host memory."""

    tier = Tier.PEER

    def __init__(
        self,
        settings: PeerSettings,
        block_bytes: int,
        holdings: Holdings,
        host: HostTier | None,
        came: Callable[[], object],
    ) -> None:
        """Offer our host tier, if there is one, and begin to look for peers; `came` is called when one is there.

        Raises InvalidArgument for an address that cannot be listened at, or NIXL where it is asked for and missing.
        """
        self.shelf = Directory()
        self._settings = settings
        self._holdings = holdings
        self._came = came
        self._store = os.urandom(_STORE_BYTES)
        self._numbers = itertools.count()
        self._links: dict[int, Link] = {}
        self._known: dict[str, int] = {}
        self._added: list[str] = []
        self._lock = threading.Lock()
        self._look = threading.Event()
        self._closed = False
        self._reader, self.because = _open_reader(settings, block_bytes)
        self._serving: Serving | None = None
        self._served_by: Agent | None = None
        self.address = ""
        if host is not None:
            self._serve(host)
        self._notices = [
            Notice(Path(place), self._store, self.address)
            for place in settings.at
            if place.startswith("/") and self.address
        ]
        self._thread = threading.Thread(target=self._find_peers, name="kv-meeting", daemon=True)
        self._thread.start()

    @property
    def resting(self) -> bool:
        """Return False: peers that are away hold nothing."""
        return False

    @property
    def capacity_bytes(self) -> int:
        """Return what peers hold: how much they could is not told."""
        return self.shelf.size_bytes

    @property
    def served(self) -> Served:
        """Return what peers were given of our blocks."""
        return self._serving.served if self._serving else Served()

    def peers(self) -> list[PeerState]:
        """Return every peer that is known."""
        with self._lock:
            links = [(number, link) for number, link in self._links.items() if not link.is_us]
        return [
            PeerState(link.address, link.following, self.shelf.blocks_of(number), link.because)
            for number, link in links
        ]

    def meet(self, addresses: Iterable[str]) -> None:
        """Look for peers at more addresses; raises InvalidArgument for what is none."""
        added = list(addresses)
        for address in added:
            split_address(address)
        with self._lock:
            self._added += added
        self._look.set()

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Fetch blocks, those of one peer at once; what one does not give is asked of another."""
        summed: list[int | None] = [None] * len(entries)
        tried: list[set[int]] = [set() for _ in entries]
        for _ in range(_TRIES):
            for number, places in self._by_peer(entries, summed, tried).items():
                for place in places:
                    tried[place].add(number)
                self._read_from(number, places, entries, into, summed)
        return summed

    def discard(self, entries: Sequence[Entry]) -> None:
        """Do nothing: blocks of peers are theirs."""

    def close(self) -> None:
        """Leave all peers; afterwards nobody reads our memory."""
        self._closed = True
        self._look.set()
        self._thread.join()
        for notice in self._notices:
            notice.close()
        for link in list(self._links.values()):
            link.close()
        if self._serving is not None:
            self._serving.close()
        if self._served_by is not None:
            self._served_by.close()
        if self._reader is not None:
            self._reader.agent.close()

    def _serve(self, host: HostTier) -> None:
        listen_host, _ = split_address(self._settings.listen)
        metadata = b""
        if self._reader is not None:
            # An agent of its own, whose thread answers peers: the reader's looks after its transfers itself.
            self._served_by = Agent("kv-serving", {"UCX": {}}, serving=True)
            self._served_by.register([Piece(address_of(host.arena), host.arena.nbytes)], Kind.MEMORY, "UCX")
            metadata = self._served_by.metadata
        welcome = Welcome(b"", b"", metadata, address_of(host.arena), host.arena.nbytes)
        try:
            self._serving = Serving(self._settings, self._store, self._holdings, host, welcome)
        except OSError as fault:
            raise InvalidArgument(f"peers cannot be served at {self._settings.listen}: {fault.strerror}") from None
        if listen_host in ("0.0.0.0", "::"):  # noqa: S104  it is compared, not bound
            listen_host = socket.gethostname()
        named = f"[{listen_host}]" if ":" in listen_host else listen_host
        self.address = f"{named}:{self._serving.port}"

    def _find_peers(self) -> None:
        while not self._closed:
            with self._lock:
                added = list(self._added)
            found = [address for place in (*self._settings.at, *added) for address in addresses_at(place)]
            self._take_up(found)
            self._let_go(set(found))
            self._look.wait(_LOOK_EVERY_S)
            self._look.clear()

    def _take_up(self, found: Sequence[str]) -> None:
        for address in found:
            if address in self._known or address == self.address or self._closed:
                continue
            number = next(self._numbers)
            self._known[address] = number
            link = Link(
                address, self._store, self._settings, self._reader, self._telling(number), self._leaving(number)
            )
            with self._lock:
                self._links[number] = link

    def _let_go(self, found: set[str]) -> None:
        """Forget peers that are neither there nor to be found any more."""
        for address, number in list(self._known.items()):
            link = self._links[number]
            if address not in found and not link.following:
                link.close()
                with self._lock:
                    del self._links[number]
                del self._known[address]

    def _telling(self, number: int) -> Callable[[Sequence[bytes], Sequence[int]], None]:
        def told(keys: Sequence[bytes], sizes: Sequence[int]) -> None:
            self._holdings.update(lambda: self.shelf.take(number, keys, sizes))
            self._came()

        return told

    def _leaving(self, number: int) -> Callable[[], None]:
        return lambda: self._holdings.update(lambda: self.shelf.leave(number))

    def _by_peer(
        self, entries: Sequence[Entry], summed: Sequence[int | None], tried: Sequence[set[int]]
    ) -> dict[int, list[int]]:
        """Return which peer to ask for which of the blocks that have not arrived."""
        asked: dict[int, list[int]] = {}
        for place, entry in enumerate(entries):
            if summed[place] is None:
                holders = [number for number in self.shelf.holders(entry.key) if number not in tried[place]]
                if holders:
                    # Who is asked already is asked for more: fewer connections, longer reads.
                    asked.setdefault(next((n for n in holders if n in asked), holders[0]), []).append(place)
        return asked

    def _read_from(
        self,
        number: int,
        places: Sequence[int],
        entries: Sequence[Entry],
        into: Sequence[memoryview],
        summed: list[int | None],
    ) -> None:
        link = self._links.get(number)
        if link is None:
            return
        try:
            fetched = link.fetch([entries[place].key for place in places], [into[place] for place in places])
        except OSError:
            return  # the link says why; these blocks are asked of the next one
        for place, one in zip(places, fetched, strict=True):
            if one.arrived == one.promised:
                summed[place] = entries[place].checksum = one.promised
            elif one.arrived is not None and summed[place] is None:
                entries[place].checksum = one.promised
                summed[place] = one.arrived  # the ladder compares, and sees that it is damaged


def _open_reader(settings: PeerSettings, block_bytes: int) -> tuple[Reader | None, str]:
    if settings.path == "plain":
        return None, ""
    try:
        return Reader(Agent("kv-reading", {"UCX": {}}), block_bytes), ""
    except InvalidArgument as fault:
        if settings.path == "nixl":
            raise
        return None, f"peers' blocks come over plain connections: {fault.told}"
    except OSError as fault:
        return None, f"peers' blocks come over plain connections: {fault}"
