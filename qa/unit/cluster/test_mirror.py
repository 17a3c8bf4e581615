"""A worker's own record of its cache, and fronts that follow it over lines that lose, repeat and begin late."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tritium.backends.engine import BlocksRemoved, BlocksStored, CacheCleared
from tritium.cluster.following import CacheFollower
from tritium.cluster.frames import CacheChanged, CacheDump, Emptied, Entered, Left
from tritium.cluster.mirror import CacheMirror
from tritium.router.blocks import hash_blocks, seed_of
from tritium.router.router import Router
from tritium.router.tiers import Tier

BLOCK = 2
CAPACITY = 6


def blocks_of(tokens, **keys):
    return hash_blocks(tokens, BLOCK, seed_of(**keys))


class Front:
    """A router that follows mirrors by what arrives, its questions kept until they are answered."""

    def __init__(self, worker="w"):
        self.router = Router(BLOCK)
        self.router.add(worker, capacity_blocks=CAPACITY, max_sequences=1)
        self.asked = 0
        self.follower = CacheFollower(self.router, worker, self.ask)

    def ask(self):
        self.asked += 1

    def hear(self, changed):
        self.follower.hear(msgspec.msgpack.decode(msgspec.msgpack.encode(changed), type=CacheChanged))

    def answer(self, dump):
        self.asked -= 1
        self.follower.heal(CacheDump(dump))

    def holds(self):
        return {tier: set(index.dump(0)) for tier, index in self.router.index.tiers.items()}


def held_by(mirror):
    front = Front()
    front.answer(mirror.dump())
    return front.holds()


class Engine:
    """The naive truth: which blocks of which prompts lie in which tier, and how an engine tells of them."""

    def __init__(self):
        self.tiers = {tier: {} for tier in Tier}
        self.names = {}

    def store(self, prompt, tier, salt):
        """Return the events of a prompt that is computed, its beginning being there or not."""
        blocks = blocks_of(prompt, salt=salt)
        known = self.tiers[tier]
        fresh = [at for at, block in enumerate(blocks) if block not in known]
        if not fresh:
            return []
        begin = fresh[0]
        parent = self.name(blocks[begin - 1]) if begin else None
        if len(known) + len(blocks) - begin > CAPACITY:
            return self.clear()
        for block in blocks[begin:]:
            known[block] = None
        names = [self.name(block) for block in blocks[begin:]]
        return [BlocksStored(names, parent, prompt[begin * BLOCK : len(blocks) * BLOCK], BLOCK, tier.value, salt=salt)]

    def name(self, block):
        return self.names.setdefault(block, 1000 + len(self.names))

    def remove(self, tier, at):
        known = self.tiers[tier]
        if not known:
            return []
        block = list(known)[at % len(known)]
        del known[block]
        return [BlocksRemoved([self.name(block)], tier.value)]

    def clear(self):
        for known in self.tiers.values():
            known.clear()
        return [CacheCleared()]

    def holds(self):
        return {tier: set(known) for tier, known in self.tiers.items()}


PROMPTS = st.lists(st.integers(0, 2), min_size=2, max_size=8)
OPERATIONS = st.one_of(
    st.tuples(st.just("store"), PROMPTS, st.sampled_from([Tier.DEVICE, Tier.HOST]), st.sampled_from(["", "acme"])),
    st.tuples(st.just("remove"), st.sampled_from([Tier.DEVICE, Tier.HOST]), st.integers(0, 9)),
    st.tuples(st.just("clear")),
)


@settings(deadline=None)
@given(st.lists(OPERATIONS, max_size=25), st.data())
def test_after_losses_and_a_dump_the_index_is_the_truth(operations, data):
    """Whatever is lost, late, told twice or asked for in vain: once a dump has come, a front knows what the engine has.

    A front that joins in the midst of it, too.
    """
    engine, mirror = Engine(), CacheMirror(BLOCK, CAPACITY)
    fronts = [Front()]
    for operation, *rest in operations:
        changed = mirror.take(getattr(engine, operation)(*rest))
        if data.draw(st.integers(0, 9), "joins") == 0:
            fronts.append(Front())
        for front in fronts:
            for _ in range(data.draw(st.sampled_from([0, 1, 1, 2]), "arrives") if changed else 0):
                front.hear(changed)
            if front.asked and data.draw(st.booleans(), "is answered"):
                front.answer(mirror.dump())
                assert not front.follower.behind
    assert held_by(mirror) == engine.holds()
    for front in fronts:
        front.follower.expect(mirror.last)
        while front.asked:
            front.answer(mirror.dump())
        assert front.holds() == engine.holds()
        assert not front.follower.behind


def test_a_block_with_two_names_leaves_with_the_last():
    """Engines that store a block twice tell of two removals; fronts hear of one."""
    mirror = CacheMirror(BLOCK, 10)
    [entered] = mirror.take([BlocksStored([1, 2], None, [5, 6, 7, 8], BLOCK)]).changes
    assert entered == Entered(blocks_of([5, 6, 7, 8]))
    assert mirror.take([BlocksStored([3], 1, [7, 8], BLOCK)]) is None
    assert mirror.take([BlocksRemoved([2])]) is None
    assert mirror.take([BlocksRemoved([3])]).changes == [Left(entered.blocks[1:])]


def test_a_name_that_stands_for_another_block():
    """Where an engine uses a name again without telling of the removal, the block it stood for is gone."""
    mirror = CacheMirror(BLOCK, 10)
    mirror.take([BlocksStored([1], None, [5, 6], BLOCK)])
    changed = mirror.take([BlocksStored([1], None, [7, 8], BLOCK)])
    assert changed.changes == [Left(blocks_of([5, 6])), Entered(blocks_of([7, 8]))]


def test_what_moves_down_without_tokens_keeps_its_name():
    """Blocks told by their names alone enter the other tier; unknown ones are counted."""
    mirror = CacheMirror(BLOCK, 10)
    mirror.take([BlocksStored([1], None, [5, 6], BLOCK)])
    moved = mirror.take([BlocksStored([1, 9], None, [], BLOCK, "host"), BlocksRemoved([1])])
    assert moved.changes == [Entered(blocks_of([5, 6]), "host"), Left(blocks_of([5, 6]))]
    assert mirror.orphans == 1
    assert mirror.held(blocks_of([5, 6])) == 1


def test_an_engine_that_told_nothing_of_removals_is_bounded():
    """A worker holds what its engine can: the oldest blocks go, and fronts are told."""
    mirror, front = CacheMirror(BLOCK, CAPACITY), Front()
    front.answer(mirror.dump())
    for number in range(20):
        front.hear(mirror.take([BlocksStored([number], None, [number, 0], BLOCK)]))
    newest = {block for number in range(20 - CAPACITY, 20) for block in blocks_of([number, 0])}
    assert front.holds()[Tier.DEVICE] == held_by(mirror)[Tier.DEVICE] == newest


def test_nothing_to_tell_has_no_number():
    """Blocks that lie elsewhere or are not known change nothing, so that no front waits for a number."""
    mirror = CacheMirror(BLOCK, 10)
    assert mirror.take([BlocksStored([1], None, [5, 6], BLOCK, "other"), BlocksRemoved([7])]) is None
    assert mirror.last == 0
    assert mirror.take([CacheCleared()]) == CacheChanged(1, [Emptied()])


def test_an_unreadable_dump_changes_nothing():
    """A damaged dump is told in the log; what is known stays, and later changes are applied."""
    front, mirror = Front(), CacheMirror(BLOCK, 10)
    front.hear(mirror.take([BlocksStored([1], None, [5, 6], BLOCK)]))
    front.answer(b"no dump")
    assert front.holds()[Tier.DEVICE] == set(blocks_of([5, 6]))
    assert front.asked == 0


def test_equal_placeholders_of_two_images_are_two_blocks():
    """What stands behind placeholders is part of a block's name and of all after it; text before is shared."""
    mirror = CacheMirror(BLOCK, 20)
    tokens = [5, 6, 9, 9, 7, 8]
    entered = []
    for number, image in enumerate(("cat", "dog")):
        names = [number * 10, number * 10 + 1, number * 10 + 2]
        changed = mirror.take([BlocksStored(names, None, tokens, BLOCK, media={2: image})])
        entered.append(changed.changes[0].blocks)
    assert entered[0] == hash_blocks(tokens, BLOCK, media={2: "cat"})
    assert entered[1] == hash_blocks(tokens, BLOCK, media={2: "dog"})[1:]
    assert not set(entered[0]) & set(entered[1])
    assert mirror.held(blocks_of([5, 6, 1, 1])) == 1


def test_adapters_and_salts_are_part_of_the_name():
    """Prompts of another adapter or tenant find nothing."""
    mirror = CacheMirror(BLOCK, 20)
    mirror.take([BlocksStored([1, 2], None, [5, 6, 7, 8], BLOCK, lora="poet", salt="acme")])
    mirror.take([BlocksStored([3], 2, [1, 2], BLOCK, lora="poet", salt="acme")])
    prompt = [5, 6, 7, 8, 1, 2]
    assert mirror.held(blocks_of(prompt, lora="poet", salt="acme")) == 3
    assert [mirror.held(blocks_of(prompt, **keys)) for keys in ({}, {"lora": "poet"}, {"salt": "acme"})] == [0, 0, 0]
