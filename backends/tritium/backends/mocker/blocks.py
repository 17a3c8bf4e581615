"""The KV cache of an engine that has none: who holds which block, what is kept for later, what is told of it.

    (nothing) --reserve--> private --seal--> named, used --release--> kept --evict--> host --evict--> (nothing)
                                                ^                      |                |
                                                +------- lease --------+----------------+

Since no memory stands behind them, blocks have no numbers: private ones (not full yet) are counted, full ones are known
by the chained hash of their tokens, and two sequences that fill the same block share it from then on.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from tritium.backends.mocker.journal import DEVICE, HOST, Block, Journal


class Match(NamedTuple):
    """How many leading blocks of a sequence are held: so many on the device, then so many on the host."""

    device: int
    host: int

    @property
    def blocks(self) -> int:
        """Return how many blocks need not be computed."""
        return self.device + self.host


class BlockManager:
    """The blocks of one engine: `blocks` on the device, `host_blocks` below them. What happens goes to the journal."""

    def __init__(
        self, blocks: int, block_tokens: int, journal: Journal, *, host_blocks: int = 0, share_prefixes: bool = True
    ) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self._journal = journal
        self._host_blocks = host_blocks
        self._share = share_prefixes
        self._private = 0
        self._users: dict[int, int] = {}
        # In the order of eviction, the next one first.
        self._kept: OrderedDict[int, Block] = OrderedDict()
        self._host: OrderedDict[int, Block] = OrderedDict()

    @property
    def used(self) -> int:
        """Return how many blocks sequences hold."""
        return self._private + len(self._users)

    @property
    def free(self) -> int:
        """Return how many blocks `reserve` could give; what is only kept makes way."""
        return self.blocks - self.used

    @property
    def kept(self) -> int:
        """Return how many blocks are on the device for nobody yet."""
        return len(self._kept)

    @property
    def hosted(self) -> int:
        """Return how many blocks are on the host."""
        return len(self._host)

    def match(self, chain: Sequence[Block]) -> Match:
        """Find the longest prefix of `chain` that is held; nothing changes."""
        device = 0
        while device < len(chain) and (chain[device].hash in self._users or chain[device].hash in self._kept):
            device += 1
        found = device
        while found < len(chain) and chain[found].hash in self._host:
            found += 1
        return Match(device, found - device)

    def can_fit(self, chain: Sequence[Block], match: Match, new: int) -> bool:
        """Tell whether the matched blocks of `chain` can be leased and `new` ones reserved beside them."""
        idle = sum(1 for block in chain[: match.device] if block.hash not in self._users)
        return idle + match.host + new <= self.free

    def lease(self, chain: Sequence[Block], match: Match) -> None:
        """Count one more user of each matched block of `chain`, bringing those of the host back to the device."""
        for block in chain[: match.device]:
            self._users[block.hash] = self._users.get(block.hash, 0) + 1
            self._kept.pop(block.hash, None)
        for block in chain[match.device : match.blocks]:
            # Making room for the one before may have pushed this one out of the host's memory: its copy is under way.
            if self._host.pop(block.hash, None) is not None:
                self._journal.removed(block, HOST)
            self._users[block.hash] = 1
            self._make_room()
            self._journal.stored(block, DEVICE)

    def reserve(self, count: int) -> None:
        """Give a sequence `count` private blocks, evicting what is only kept. The caller has asked `free` first."""
        self._private += count
        self._make_room()

    def seal(self, block: Block) -> bool:
        """Name a private block that is full; return whether it is named now (not where prefixes are not shared)."""
        if not self._share:
            return False
        self._private -= 1
        users = self._users.get(block.hash, 0)
        self._users[block.hash] = users + 1
        if not users and self._kept.pop(block.hash, None) is None:
            self._journal.stored(block, DEVICE)
        return True

    def release(self, named: Sequence[Block], private: int) -> None:
        """End the use of a sequence's blocks; its tail is evicted before its head, which is shared more often."""
        self._private -= private
        for block in reversed(named):
            users = self._users[block.hash] - 1
            if users:
                self._users[block.hash] = users
            else:
                del self._users[block.hash]
                self._kept[block.hash] = block

    def clear(self) -> None:
        """Forget everything that nobody uses."""
        self._kept.clear()
        self._host.clear()
        self._journal.cleared()

    def _make_room(self) -> None:
        while self.used + len(self._kept) > self.blocks:
            _, block = self._kept.popitem(last=False)
            self._journal.removed(block, DEVICE)
            if self._host_blocks:
                self._offload(block)

    def _offload(self, block: Block) -> None:
        """Put an evicted block on the host, where it may push out the one that came first."""
        if block.hash in self._host:
            self._host.move_to_end(block.hash)
            return
        if len(self._host) == self._host_blocks:
            self._journal.removed(self._host.popitem(last=False)[1], HOST)
        self._host[block.hash] = block
        self._journal.stored(block, HOST)
