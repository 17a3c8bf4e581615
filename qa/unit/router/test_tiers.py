"""The index of all tiers against one that is too simple to be wrong, and its dumps."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from tritium.core.errors import InvalidArgument, NotFound
from tritium.router.dump import Dump, decode, encode
from tritium.router.router import Router
from tritium.router.tiers import Tier, TieredIndex

WORKERS, TIERS = st.integers(0, 3), st.sampled_from(Tier)
PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=4)
KEYS = st.lists(st.integers(0, 9), max_size=4)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("store"), WORKERS, TIERS, PAIRS),
        st.tuples(st.just("remove"), WORKERS, TIERS, KEYS),
        st.tuples(st.just("copy_down"), WORKERS, TIERS, KEYS),
        st.tuples(st.just("clear"), WORKERS, TIERS, st.none()),
        st.tuples(st.just("restore"), WORKERS, TIERS, PAIRS),
        st.tuples(st.just("copy"), WORKERS, TIERS, WORKERS),
    ),
    max_size=40,
)


class NaiveIndex:
    """Per worker and tier: engine hash -> block. Nothing else."""

    def __init__(self, workers):
        self.held = [{tier: {} for tier in Tier} for _ in range(workers)]

    def at(self, worker, blocks):
        depths, there = [], set()
        for tier in Tier:
            there |= set(self.held[worker][tier].values())
            depths.append(next((i for i, block in enumerate(blocks) if block not in there), len(blocks)))
        return tuple(depth - above for above, depth in zip([0, *depths], depths, strict=False))

    def block_of(self, worker, key):
        return next((held[key] for held in self.held[worker].values() if key in held), None)


@given(OPERATIONS, st.lists(st.integers(0, 5), max_size=6))
def test_matches_as_the_naive_one(operations, prompt):
    """Whatever was stored, moved, removed, cleared, restored or copied through bytes, in whichever tier."""
    index, naive = TieredIndex(), NaiveIndex(4)
    for worker in range(4):
        index.add(worker, 100)
    for operation, worker, tier, what in operations:
        held = naive.held[worker]
        if operation == "store":
            index.tiers[tier].store(worker, [key for key, _ in what], [block for _, block in what])
            held[tier].update(what)
        elif operation == "remove":
            index.tiers[tier].remove(worker, what)
            for key in what:
                held[tier].pop(key, None)
        elif operation == "copy_down":
            known = index.known(worker, what)
            assert known == {key: block for key in what if (block := naive.block_of(worker, key)) is not None}
            index.tiers[tier].store(worker, known.keys(), known.values())
            held[tier].update(known)
        elif operation == "clear":
            index.clear(worker)
            naive.held[worker] = {tier: {} for tier in Tier}
        elif operation == "restore":
            index.tiers[tier].restore(worker, dict(what))
            held[tier] = dict(what)
        else:
            tiers = {tier: kept.dump(what) for tier, kept in index.tiers.items()}
            for name, copied in decode(encode(Dump(16, tiers))).tiers.items():
                index.tiers[name].restore(worker, copied)
            naive.held[worker] = {tier: dict(kept) for tier, kept in naive.held[what].items()}
    for worker in range(4):
        found = index.match(prompt).at(worker)
        assert naive.at(worker, prompt) == (found.device, found.host, found.disk, found.object)
    for tier, kept in index.tiers.items():
        assert kept.entries == sum(len(held[tier]) for held in naive.held)


@given(st.dictionaries(TIERS, st.dictionaries(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))), st.binary())
def test_dumps_come_back_or_are_refused(tiers, noise):
    """What was written is read again whole; anything cut short, changed or foreign is refused in words."""
    dump = Dump(32, tiers, last_event=7)
    data = encode(dump)
    assert decode(data) == dump
    for broken in (data[:-1], data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], noise):
        with pytest.raises(InvalidArgument, match="dump"):
            decode(broken)


def test_a_dump_of_another_version_is_refused():
    """A router of the next version is told from damage."""
    data = bytearray(encode(Dump(32, {})))
    data[4] += 1
    with pytest.raises(InvalidArgument, match="version 2, this router reads version 1"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("tiers", "body"),
    [
        (1, b"\0\0\xff\xff\xff\xff"),
        (1, b"\0\1\3\0\0\0" + b"1234567"),
        (65_535, b""),
    ],
)
def test_a_dump_that_says_more_than_is_in_it_is_refused(tiers, body):
    """A dump with a right sum and wrong contents, as no router writes it, is refused as a damaged one is."""
    data = struct.pack("<4sHHIQ", b"TKVD", 1, tiers, 16, 0) + body
    with pytest.raises(InvalidArgument, match="more than is in it"):
        decode(data + struct.pack("<Q", xxh3_64_intdigest(data)))


def test_a_dump_takes_sixteen_bytes_a_block_and_eight_by_our_hashes():
    """10,000 blocks are 160 kB on the wire, half of that where the engine's own hashes are not told."""
    held = {number: number + 1 for number in range(10_000)}
    assert len(encode(Dump(16, {Tier.DEVICE: held}))) < 160_100
    assert len(encode(Dump(16, {Tier.DEVICE: dict(zip(held, held, strict=True))}))) < 80_100


def test_dumps_fit_their_router():
    """Blocks of another size and unknown workers are refused."""
    router = Router(16)
    router.add("a", capacity_blocks=10, max_sequences=1)
    with pytest.raises(InvalidArgument, match="32 tokens, here are 16"):
        router.restore("a", Dump(32, {}))
    with pytest.raises(NotFound, match="no worker 'b'"):
        router.restore("b", Dump(16, {}))
