"""The block manager against a naive one, and what it tells."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared
from tritium.backends.mocker.blocks import BlockManager, Match
from tritium.backends.mocker.content import TokenContent
from tritium.backends.mocker.journal import Block, EventJournal

SIZE = 2


def chain_of(tokens: list[int], salt: str = "") -> list[Block]:
    chain: list[Block] = []
    TokenContent(tokens, salt=salt).extend(chain, len(tokens), SIZE)
    return chain


@dataclass
class Holder:
    """One sequence of the naive manager: the prefixes it holds by name, and how many private blocks."""

    chain: list[Block]
    prefixes: list[tuple[int, ...]]
    private: int
    named: int = 0


@dataclass
class Naive:
    """A block manager in plain lists: a full block is the tuple of all tokens up to its end."""

    blocks: int
    host_blocks: int
    holders: list[Holder] = field(default_factory=list)
    kept: list[tuple[int, ...]] = field(default_factory=list)
    host: list[tuple[int, ...]] = field(default_factory=list)

    def used_names(self) -> set[tuple[int, ...]]:
        return {prefix for holder in self.holders for prefix in holder.prefixes[: holder.named]}

    def used(self) -> int:
        return len(self.used_names()) + sum(holder.private for holder in self.holders)

    def match(self, prefixes: list[tuple[int, ...]]) -> Match:
        there = self.used_names() | set(self.kept)
        device = next((at for at, prefix in enumerate(prefixes) if prefix not in there), len(prefixes))
        rest = prefixes[device:]
        return Match(device, next((at for at, prefix in enumerate(rest) if prefix not in self.host), len(rest)))

    def make_room(self) -> None:
        while self.used() + len(self.kept) > self.blocks:
            evicted = self.kept.pop(0)
            if not self.host_blocks:
                continue
            if evicted in self.host:
                self.host.remove(evicted)
            elif len(self.host) == self.host_blocks:
                self.host.pop(0)
            self.host.append(evicted)

    def lease(self, prefixes: list[tuple[int, ...]], match: Match, holder: Holder) -> None:
        self.holders.append(holder)
        for at in range(match.device):
            holder.named += 1
            if prefixes[at] in self.kept:
                self.kept.remove(prefixes[at])
        for at in range(match.device, match.blocks):
            if prefixes[at] in self.host:
                self.host.remove(prefixes[at])
            holder.named += 1
            self.make_room()

    def release(self, holder: Holder) -> None:
        self.holders.remove(holder)
        used = self.used_names()
        self.kept += [prefix for prefix in reversed(holder.prefixes[: holder.named]) if prefix not in used]


class Managers(RuleBasedStateMachine):
    """Both managers, driven alike; what the events say is gathered in two more sets."""

    def __init__(self) -> None:
        super().__init__()
        self.journal = EventJournal(SIZE)
        self.real = BlockManager(8, SIZE, self.journal, host_blocks=3)
        self.naive = Naive(8, 3)
        self.told: dict[str, set[int]] = {"device": set(), "host": set()}

    @rule(tokens=st.lists(st.integers(1, 2), min_size=1, max_size=10), first=st.integers(0, 1))
    def admit(self, tokens: list[int], first: int) -> None:
        tokens = [first, *tokens]
        chain = chain_of(tokens)
        prefixes = [tuple(tokens[: (at + 1) * SIZE]) for at in range(len(chain))]
        match = self.real.match(chain)
        assert self.naive.match(prefixes) == match
        new = -(-len(tokens) // SIZE) - match.blocks
        idle = [prefix for prefix in prefixes[: match.device] if prefix not in self.naive.used_names()]
        fits = len(idle) + match.host + new <= self.naive.blocks - self.naive.used()
        assert self.real.can_fit(chain, match, new) == fits
        if fits:
            holder = Holder(chain, prefixes, 0)
            self.real.lease(chain, match)
            self.naive.lease(prefixes, match, holder)
            self.real.reserve(new)
            holder.private += new
            self.naive.make_room()

    @precondition(lambda self: self.naive.holders)
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.naive.holders))
        if holder.named < len(holder.chain):
            assert self.real.seal(holder.chain[holder.named])
            prefix = holder.prefixes[holder.named]
            holder.private -= 1
            holder.named += 1
            if prefix in self.naive.kept:
                self.naive.kept.remove(prefix)

    @precondition(lambda self: self.naive.holders)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        holder = data.draw(st.sampled_from(self.naive.holders))
        self.real.release(holder.chain[: holder.named], holder.private)
        self.naive.release(holder)

    @precondition(lambda self: self.naive.used() < self.naive.blocks and self.naive.holders)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        self.real.reserve(1)
        data.draw(st.sampled_from(self.naive.holders)).private += 1
        self.naive.make_room()

    @invariant()
    def agree(self) -> None:
        naive = self.naive
        assert (self.real.used, self.real.kept, self.real.hosted) == (naive.used(), len(naive.kept), len(naive.host))
        assert self.real.used + self.real.kept <= self.real.blocks

    @invariant()
    def what_is_told_is_true(self) -> None:
        for event in self.journal.take():
            match event:
                case BlocksStored():
                    assert not self.told[event.tier] & set(event.hashes), "stored twice"
                    self.told[event.tier] |= set(event.hashes)
                case BlocksRemoved():
                    assert set(event.hashes) <= self.told[event.tier], "removed what was not there"
                    self.told[event.tier] -= set(event.hashes)
        names = self.naive.used_names() | set(self.naive.kept)
        assert self.told["device"] == {chain_of(list(prefix))[-1].hash for prefix in names}
        assert self.told["host"] == {chain_of(list(prefix))[-1].hash for prefix in self.naive.host}


TestManagers = Managers.TestCase


def test_events_carry_what_a_router_needs() -> None:
    """Blocks stored in one go make one event, with the parent before them, their tokens, adapter and salt."""
    journal = EventJournal(SIZE)
    manager = BlockManager(4, SIZE, journal)
    chain = chain_of([1, 2, 3, 4, 5, 6], salt="s")
    manager.reserve(3)
    for block in chain:
        manager.seal(block)
    hashes = [block.hash for block in chain]
    assert journal.take() == [BlocksStored(hashes, None, [1, 2, 3, 4, 5, 6], SIZE, "device", "", "s")]
    manager.release(chain, 0)
    manager.reserve(3)
    assert journal.take() == [BlocksRemoved(hashes[:0:-1])]
    manager.clear()
    assert journal.take() == [CacheCleared()]
    assert manager.match(chain) == Match(0, 0)


def test_the_least_recently_used_goes_first() -> None:
    """A prefix that was used again outlives one that was not; its own tail goes before its head."""
    journal = EventJournal(SIZE)
    manager = BlockManager(4, SIZE, journal)
    old, new = chain_of([1, 1, 1, 1]), chain_of([2, 2, 2, 2])
    for chain in (old, new):
        manager.reserve(2)
        for block in chain:
            manager.seal(block)
        manager.release(chain, 0)
    manager.lease(old, manager.match(old))
    manager.release(old, 0)
    manager.reserve(3)
    assert (manager.match(old), manager.match(new)) == (Match(1, 0), Match(0, 0))


def test_what_left_the_device_comes_back_from_the_host() -> None:
    """An evicted block is told of on the host, found there, and told of on the device again when it is leased."""
    journal = EventJournal(SIZE)
    manager = BlockManager(2, SIZE, journal, host_blocks=2)
    chain = chain_of([1, 2, 3, 4])
    manager.reserve(2)
    for block in chain:
        manager.seal(block)
    manager.release(chain, 0)
    manager.reserve(2)
    assert manager.match(chain) == Match(0, 2)
    assert {event.tier for event in journal.take() if isinstance(event, BlocksStored)} == {"device", "host"}
    manager.release([], 2)
    manager.lease(chain, manager.match(chain))
    tiers = [(type(event), event.tier) for event in journal.take() if not isinstance(event, CacheCleared)]
    assert tiers == [
        (BlocksRemoved, "host"),
        (BlocksStored, "device"),
        (BlocksRemoved, "host"),
        (BlocksStored, "device"),
    ]


def test_a_block_that_leaves_the_device_again_is_the_last_to_leave_the_host() -> None:
    """A block computed again while the host still had it is not told twice, and counts as new there."""
    journal = EventJournal(SIZE)
    manager = BlockManager(2, SIZE, journal, host_blocks=2)

    def keep(*tokens: int) -> list[Block]:
        chain = chain_of(list(tokens))
        manager.reserve(1)
        manager.seal(chain[0])
        manager.release(chain, 0)
        return chain

    def push_out() -> None:
        manager.reserve(2)
        manager.release([], 2)

    first, second = keep(1, 1), keep(2, 2)
    push_out()
    keep(1, 1)
    push_out()
    third = keep(3, 3)
    push_out()
    assert [manager.match(chain) for chain in (first, second, third)] == [Match(0, 1), Match(0, 0), Match(0, 1)]
