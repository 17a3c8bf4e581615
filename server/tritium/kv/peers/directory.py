"""Which peers hold which blocks, as they last told; a block that has gone meanwhile is refused when it is asked for."""

from collections.abc import Iterable, Iterator

from tritium.kv.block import Tier
from tritium.kv.holdings import TierEvent
from tritium.kv.shelf import Entry


class Directory:
    """Blocks by key, with their sizes and which peers hold them, by number; guarded by the lock of `holdings`."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._sizes: dict[bytes, int] = {}
        self._holders: dict[bytes, list[int]] = {}
        self._of_peer: dict[int, dict[bytes, None]] = {}

    def __len__(self) -> int:
        """Return how many blocks peers hold."""
        return len(self._holders)

    def __contains__(self, key: bytes) -> bool:
        """Return whether a peer holds the block."""
        return key in self._holders

    def held(self, key: bytes) -> Entry | None:
        """Return an entry for the block; its checksum is learnt when it is read."""
        if key not in self._holders:
            return None
        return Entry(key, 0, self._sizes[key], held=True)

    def entries(self) -> Iterator[Entry]:
        """Yield every block."""
        return (Entry(key, 0, size_bytes, held=True) for key, size_bytes in self._sizes.items())

    def touch(self, key: bytes) -> None:
        """Do nothing: what stays at a peer is the peer's to decide."""

    def remove(self, entry: Entry) -> None:
        """Forget that any peer holds the block: what came was not it."""
        for peer in self._holders.get(entry.key, ()):
            self._of_peer[peer].pop(entry.key, None)
        self._forget(entry.key)

    def holders(self, key: bytes) -> list[int]:
        """Return the numbers of the peers that hold a block."""
        return list(self._holders.get(key, ()))

    def blocks_of(self, peer: int) -> int:
        """Return how many blocks a peer holds."""
        return len(self._of_peer.get(peer, ()))

    def take(self, peer: int, keys: Iterable[bytes], sizes: Iterable[int]) -> Iterator[TierEvent]:
        """Note what a peer told, with 0 for what left it; yield what that changes."""
        own = self._of_peer.setdefault(peer, {})
        for key, size_bytes in zip(keys, sizes, strict=True):
            if not size_bytes:
                yield from self._leave(peer, key)
            elif key not in own:
                own[key] = None
                self._holders.setdefault(key, []).append(peer)
                if key not in self._sizes:
                    self._sizes[key] = size_bytes
                    self.size_bytes += size_bytes
                    yield TierEvent(Tier.PEER, key, stored=True)

    def leave(self, peer: int) -> Iterator[TierEvent]:
        """Forget a peer with all that it holds."""
        for key in list(self._of_peer.get(peer, ())):
            yield from self._leave(peer, key)
        self._of_peer.pop(peer, None)

    def _leave(self, peer: int, key: bytes) -> Iterator[TierEvent]:
        self._of_peer.get(peer, {}).pop(key, None)
        holders = self._holders.get(key, [])
        if peer in holders:
            holders.remove(peer)
            if not holders:
                self._forget(key)
                yield TierEvent(Tier.PEER, key, stored=False)

    def _forget(self, key: bytes) -> None:
        self._holders.pop(key, None)
        self.size_bytes -= self._sizes.pop(key, 0)
