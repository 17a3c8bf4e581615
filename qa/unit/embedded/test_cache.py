"""The block pool against a naive one, and what its events say."""

from collections.abc import Sequence

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tritium.backends.embedded.cache import BlockKey, BlockPool, extend_keys
from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared

SIZE = 2
PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def keys_of(tokens: Sequence[int], salt: str = "") -> list[BlockKey]:
    keys: list[BlockKey] = []
    extend_keys(keys, tokens, SIZE, salt)
    return keys


class PoolMachine(RuleBasedStateMachine):
    """Sequences come and go; beside the pool, a plain list of who holds which block and what it contains.

    What a listener to the events believes must always be what `match` finds.
    """

    @initialize(blocks=st.integers(6, 14))
    def begin(self, blocks: int) -> None:
        self.pool = BlockPool(blocks, SIZE)
        self.held: list[tuple[list[int], list[BlockKey]]] = []
        self.heard: dict[int, int | None] = {}
        self.order: list[int] = []

    @rule(tokens=PROMPTS)
    def come(self, tokens: list[int]) -> None:
        """A sequence takes what matches and computes the rest, as the scheduler does."""
        keys = keys_of(tokens)
        matched = self.pool.match(keys[: (len(tokens) - 1) // SIZE])
        new = -(-len(tokens) // SIZE) - len(matched)
        free = self.pool.free
        newly_leased = sum(all(block not in blocks for blocks, _ in self.held) for block in matched)
        assert self.pool.can_fit(matched, new) == (new + newly_leased <= free)
        if not self.pool.can_fit(matched, new):
            return
        self.pool.lease(matched)
        blocks = matched + self.pool.reserve(new)
        assert len(set(blocks)) == len(blocks)
        others = {block for other, _ in self.held for block in other}
        assert others.isdisjoint(blocks[len(matched) :]), "a block in use was given away"
        self.pool.seal(blocks[len(matched) : len(keys)], keys[len(matched) :])
        self.held.append((blocks, keys))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        blocks, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.release(blocks)

    @rule()
    def clear(self) -> None:
        self.pool.clear()

    @invariant()
    def free_and_leased_are_all(self) -> None:
        if not hasattr(self, "pool"):
            return
        leased = {block for blocks, _ in self.held for block in blocks}
        assert self.pool.used == len(leased)
        assert self.pool.free + self.pool.used == self.pool.blocks

    @invariant()
    def events_tell_the_truth(self) -> None:
        if not hasattr(self, "pool"):
            return
        for event in self.pool.take_events():
            match event:
                case BlocksStored(hashes, parent, token_ids, block_tokens):
                    assert len(token_ids) == block_tokens * len(hashes)
                    for hash_ in hashes:
                        assert hash_ not in self.heard, "stored twice"
                        self.heard[hash_] = parent
                        parent = hash_
                case BlocksRemoved(hashes):
                    for hash_ in hashes:
                        del self.heard[hash_]
                case CacheCleared():
                    self.heard.clear()
        for _, keys in self.held:
            found = self.pool.match(keys)
            believed = 0
            while believed < len(keys) and keys[believed].hash in self.heard:
                believed += 1
            assert len(found) == believed


PoolMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestPool = PoolMachine.TestCase


def test_least_recently_released_goes_first() -> None:
    """Under pressure the prefix that was not used for the longest time is evicted, from its tail."""
    pool = BlockPool(4, SIZE)
    old, young = keys_of([1, 1, 2, 2]), keys_of([3, 3, 4, 4])
    for keys in (old, young):
        blocks = pool.reserve(2)
        pool.seal(blocks, keys)
        pool.release(blocks)
    pool.take_events()
    pool.reserve(1)
    assert [BlocksRemoved([old[1].hash])] == pool.take_events()
    assert len(pool.match(old)) == 1
    assert len(pool.match(young)) == 2


def test_blocks_without_content_go_before_kept_ones() -> None:
    """What a prefix cache holds is not evicted while there are blocks that hold nothing."""
    pool = BlockPool(3, SIZE)
    keys = keys_of([1, 1])
    kept, unfilled = pool.reserve(1), pool.reserve(2)
    pool.seal(kept, keys)
    pool.release(kept)
    pool.release(unfilled)
    pool.reserve(2)
    assert pool.match(keys) == kept


def test_equal_tokens_after_other_tokens_are_other_blocks() -> None:
    """A block's name holds all that came before it."""
    assert keys_of([1, 1, 9, 9])[1].hash != keys_of([2, 2, 9, 9])[1].hash


def test_a_meeting_of_hashes_is_no_match() -> None:
    """Blocks of equal hash but other tokens are never shared."""
    pool = BlockPool(2, SIZE)
    (key,) = keys_of([1, 2])
    blocks = pool.reserve(1)
    pool.seal(blocks, [key])
    forged = BlockKey(key.hash, None, keys_of([5, 6])[0].tokens, "")
    assert pool.match([key]) == blocks
    assert pool.match([forged]) == []


def test_salts_keep_tenants_apart() -> None:
    """The same tokens under another salt are another block, and the event says under which."""
    pool = BlockPool(2, SIZE)
    pool.seal(pool.reserve(1), keys_of([1, 2], "tenant a"))
    assert pool.match(keys_of([1, 2], "tenant b")) == []
    assert [event.salt for event in pool.take_events()] == ["tenant a"]


def test_without_sharing_nothing_is_named() -> None:
    """Prefix caching can be turned off."""
    pool = BlockPool(2, SIZE, share_prefixes=False)
    pool.seal(pool.reserve(1), keys_of([1, 2]))
    assert pool.match(keys_of([1, 2])) == []
    assert pool.take_events() == []
