"""Which block of the KV cache belongs to whom: leases, shared prefixes, eviction, and the events that tell of it.

    free --reserve--> leased --release--> free            (never filled: nothing to keep)
                         |
                       seal ----release----> kept --match, lease--> leased
                                              |
                                            evict (least recently released first) --> free

A sealed block is full and named by the hash of its tokens and of all before them, so that equal prefixes meet.
The memory itself is the model's; here are numbers only.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared, KvEvent


@dataclass(frozen=True, slots=True)
class BlockKey:
    """The name of a full block, and what it names: compared on a match, since 64 bits can meet by chance or intent."""

    hash: int
    parent: int | None
    tokens: bytes
    salt: str


def extend_keys(keys: list[BlockKey], tokens: Sequence[int], block_tokens: int, salt: str) -> None:
    """Append the keys of those full blocks of `tokens` that `keys` does not have yet."""
    for start in range(len(keys) * block_tokens, len(tokens) - block_tokens + 1, block_tokens):
        content = array("i", tokens[start : start + block_tokens]).tobytes()
        parent = keys[-1].hash if keys else None
        seed = salt.encode() if parent is None else parent.to_bytes(8, "little")
        keys.append(BlockKey(xxhash.xxh3_64_intdigest(seed + content), parent, content, salt))


class BlockPool:
    """The blocks of one cache. Events gather in order until `take_events`."""

    def __init__(self, blocks: int, block_tokens: int, *, share_prefixes: bool = True) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self._share = share_prefixes
        self._leases = [0] * blocks
        self._keys: list[BlockKey | None] = [None] * blocks
        self._by_hash: dict[int, int] = {}
        # In the order of eviction: first those never filled, then the least recently released.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        self._events: list[KvEvent] = []

    @property
    def free(self) -> int:
        """Return how many blocks `reserve` could give."""
        return len(self._free)

    @property
    def used(self) -> int:
        """Return how many blocks are leased."""
        return self.blocks - len(self._free)

    def match(self, keys: Sequence[BlockKey]) -> list[int]:
        """Return the kept blocks that hold the longest prefix of `keys`; nothing changes."""
        found = []
        for key in keys:
            block = self._by_hash.get(key.hash)
            if block is None:
                break
            if self._keys[block] != key:
                break
            found.append(block)
        return found

    def can_fit(self, matched: Sequence[int], new: int) -> bool:
        """Tell whether `matched` can be leased and `new` blocks reserved beside them."""
        return new <= len(self._free) - sum(1 for block in matched if self._leases[block] == 0)

    def lease(self, blocks: Sequence[int]) -> None:
        """Count one more user of each block; every lease is ended by one `release`."""
        for block in blocks:
            if self._leases[block] == 0:
                del self._free[block]
            self._leases[block] += 1

    def reserve(self, count: int) -> list[int]:
        """Take `count` blocks of undefined content, each with one lease, evicting what they held.

        The caller has asked `can_fit` or `free` first.
        """
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            self._evict(block)
            self._leases[block] = 1
            taken.append(block)
        return taken

    def release(self, blocks: Sequence[int]) -> None:
        """End one lease of each block of a sequence; the tail becomes free first, for the head is shared more often."""
        for block in reversed(blocks):
            self._leases[block] -= 1
            if self._leases[block] == 0:
                self._free[block] = None
                if self._keys[block] is None:
                    self._free.move_to_end(block, last=False)

    def seal(self, blocks: Sequence[int], keys: Sequence[BlockKey]) -> None:
        """Name leased blocks of one sequence that are now full; a name already known is not taken twice."""
        if not self._share:
            return
        named: list[BlockKey] = []
        for block, key in zip(blocks, keys, strict=True):
            if key.hash in self._by_hash:
                self._tell_stored(named)
                named = []
                continue
            self._by_hash[key.hash] = block
            self._keys[block] = key
            named.append(key)
        self._tell_stored(named)

    def clear(self) -> None:
        """Forget the content of every block; leases stay."""
        self._by_hash.clear()
        self._keys = [None] * self.blocks
        self._events.append(CacheCleared())

    def take_events(self) -> list[KvEvent]:
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    def _evict(self, block: int) -> None:
        key = self._keys[block]
        if key is None:
            return
        self._keys[block] = None
        del self._by_hash[key.hash]
        last = self._events[-1] if self._events else None
        if isinstance(last, BlocksRemoved):
            last.hashes.append(key.hash)
        else:
            self._events.append(BlocksRemoved([key.hash]))

    def _tell_stored(self, keys: list[BlockKey]) -> None:
        if not keys:
            return
        tokens = array("i")
        for key in keys:
            tokens.frombytes(key.tokens)
        hashes = [key.hash for key in keys]
        self._events.append(BlocksStored(hashes, keys[0].parent, tokens.tolist(), self.block_tokens, salt=keys[0].salt))
