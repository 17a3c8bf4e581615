"""The KV index against one that is too simple to be wrong."""

import time

from hypothesis import given
from hypothesis import strategies as st

from tritium.router.blocks import hash_blocks, seed_of
from tritium.router.index import KvIndex

WORKERS = st.integers(0, 4)
KEYS = st.integers(0, 9)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), WORKERS, st.lists(st.tuples(KEYS, st.integers(0, 5)), max_size=4)),
        st.tuples(st.just("remove"), WORKERS, st.lists(KEYS, max_size=4)),
        st.tuples(st.just("clear"), WORKERS, st.none()),
        st.tuples(st.just("again"), WORKERS, st.none()),
    ),
    max_size=40,
)


class NaiveIndex:
    """Per worker: engine hash -> block. Nothing else."""

    def __init__(self, workers: int) -> None:
        self.held = [{} for _ in range(workers)]

    def match(self, blocks):
        found = {}
        for worker, held in enumerate(self.held):
            there = set(held.values())
            depth = next((i for i, block in enumerate(blocks) if block not in there), len(blocks))
            if depth:
                found[worker] = depth
        return found


@given(OPERATIONS, st.lists(st.integers(0, 5), max_size=6))
def test_matches_as_the_naive_one(operations, prompt):
    """Whatever was stored, stored again elsewhere, removed or cleared: overlaps and sizes are the naive index's."""
    index, naive = KvIndex(), NaiveIndex(5)
    for worker in range(5):
        index.add(worker, 100)
    for operation, worker, what in operations:
        if operation == "store":
            index.store(worker, [key for key, _ in what], [block for _, block in what])
            naive.held[worker].update(what)
        elif operation == "remove":
            index.remove(worker, what)
            for key in what:
                naive.held[worker].pop(key, None)
        elif operation == "clear":
            index.clear(worker)
            naive.held[worker].clear()
        else:
            index.forget(worker)
            index.add(worker, 100)
            naive.held[worker].clear()
        assert [len(held) for held in naive.held] == [index.held_by(worker) for worker in range(5)]
    assert naive.match(prompt) == index.match(prompt)
    assert len({block for held in naive.held for block in held.values()}) == len(index)


@given(OPERATIONS)
def test_forgotten_workers_leave_nothing(operations):
    """When every worker is forgotten the index is empty: nothing of it can leak."""
    index = KvIndex()
    for worker in range(5):
        index.add(worker, 6)
    for operation, worker, what in operations:
        if operation == "store":
            index.store(worker, [key for key, _ in what], [block for _, block in what])
            assert index.held_by(worker) <= 6
        elif operation == "remove":
            index.remove(worker, what)
    for worker in range(5):
        index.forget(worker)
    assert len(index) == 0
    assert not index._again


@given(
    st.lists(st.tuples(WORKERS, st.integers(0, 40), st.integers(1, 8)), max_size=40),
    st.integers(1, 30),
    st.lists(st.integers(0, 400), max_size=20),
)
def test_the_whole_index_is_bounded(stores, limit, routed):
    """However much all workers store together: never more than the limit, and all that is gone was counted."""
    index = KvIndex(limit)
    for worker in range(5):
        index.add(worker, 100)
    for worker, first, count in stores:
        names = [worker * 1000 + first * 10 + i for i in range(count)]
        before = index.entries, index.dropped
        added = sum(name not in index.dump(worker) for name in names)
        index.store(worker, names, names)
        index.touch(routed)
        assert index.entries <= limit
        assert index.entries == before[0] + added - (index.dropped - before[1])
    assert index.entries == sum(index.held_by(worker) for worker in range(5))


def test_what_was_routed_lately_is_dropped_last():
    """Of a full share, blocks that prompts came for stay, though they are the oldest."""
    index = KvIndex()
    index.add(0, 100)
    index.store(0, range(100), range(100))
    index.touch(range(10))
    index.store(0, range(100, 150), range(100, 150))
    assert index.match(range(10)) == {0: 10}
    assert index.match([10]) == {}
    assert index.dropped == 50


def test_dump_starts_another_index():
    """What one index tells of a worker makes another one answer alike."""
    index, other = KvIndex(), KvIndex()
    index.add(3, 10)
    index.store(3, [11, 12], [1, 2])
    other.add(0, 10)
    dump = index.dump(3)
    other.restore(0, dump)
    assert other.match([1, 2, 3]) == {0: 2}


@given(st.lists(st.integers(0, 2**32 - 1), max_size=70), st.integers(0, 70), st.integers(1, 17))
def test_hashes_chain(tokens, cut, size):
    """A prompt's blocks are those of its beginning and of what follows it, hashed in two parts or in one."""
    cut -= cut % size
    whole = hash_blocks(tokens, size, seed_of(salt="s"))
    first = hash_blocks(tokens[:cut], size, seed_of(salt="s"))
    rest = hash_blocks(tokens[cut:], size, first[-1] if first else seed_of(salt="s"))
    assert whole == (first + rest if cut <= len(tokens) else first)
    assert len(whole) == len(tokens) // size


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 40), st.integers(1, 5))
def test_media_stand_for_their_tokens(tokens, at, size):
    """Another picture in the same place changes its block and all after it, and none before."""
    plain, cat, dog = (hash_blocks(tokens, size, media=media) for media in (None, {at: "cat"}, {at: "dog"}))
    block = at // size
    assert plain[:block] == cat[:block] == dog[:block]
    assert not {*plain[block:]} & {*cat[block:]}
    assert not {*cat[block:]} & {*dog[block:]}


def test_seeds_differ():
    """Salt and adapter, in whichever place, give different blocks; neither gives the plain ones."""
    seeds = [seed_of(), seed_of(salt="a"), seed_of(lora="a"), seed_of(salt="a", lora="b"), seed_of(salt="ab")]
    assert len(set(seeds)) == len(seeds)


def test_match_is_quick():
    """512 blocks among 256 workers are matched in well under a millisecond, whatever else the machine does."""
    index = KvIndex()
    prompt = hash_blocks(range(512 * 16), 16)
    for worker in range(256):
        index.add(worker, 10_000)
        index.store(worker, range(256 + worker), prompt[: 256 + worker])
    quickest = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        overlaps = index.match(prompt)
        quickest = min(quickest, time.perf_counter() - began)
    assert overlaps[255] == 511
    assert len(overlaps) == 256
    assert quickest < 1e-3
