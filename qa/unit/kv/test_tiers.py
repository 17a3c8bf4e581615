"""How blocks sink to slower tiers, rise again, and are found after a restart."""

import threading
from dataclasses import replace

import pytest
from qa.unit.kv.blocks import BLOCK, PATIENCE_S, SHAPE, keys, load, save

from tritium.core.errors import InvalidArgument, Unavailable
from tritium.kv.block import Namespace, Tier
from tritium.kv.host import HostTier
from tritium.kv.settings import DiskSettings, HostSettings, ObjectSettings, StoreSettings, Writing
from tritium.kv.store import BlockStore

SLOT = 8192


def settings(folder, *, host=0, disk=0, objects=0, writing=Writing.THROUGH, uses=1, directories=1, **more):
    """Return a store of so many blocks in each tier."""
    return StoreSettings(
        BLOCK,
        HostSettings(host * BLOCK) if host else None,
        DiskSettings(disk * SLOT, tuple(folder / f"disk{i}" for i in range(directories)), min_uses=uses, **more)
        if disk
        else None,
        ObjectSettings(objects * BLOCK, f"file://{_made(folder / 'bucket')}", min_uses=uses) if objects else None,
        writing,
    )


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder


def test_evicted_blocks_are_written_back(tmp_path) -> None:
    """With write-back a block reaches the disk when it must leave the host, and not before."""
    with BlockStore(settings(tmp_path, host=4, disk=20, writing=Writing.BACK)) as store:
        save(store, keys(4))
        assert store.stats().tiers[Tier.DISK].blocks == 0
        save(store, keys(4, 4))
        assert store.hold(keys(8)) == [Tier.DISK] * 4 + [Tier.HOST] * 4
        assert load(store, keys(8)) == [True] * 8
        assert store.stats().tiers[Tier.DISK].demoted == 4


def test_write_through_copies_at_once(tmp_path) -> None:
    """Every tier has the block before the host needs the room."""
    with BlockStore(settings(tmp_path, host=4, disk=20, objects=20)) as store:
        save(store, keys(4))
        assert [tier.blocks for tier in store.stats().tiers.values()] == [4, 4, 4]


def test_a_slow_tier_takes_only_what_is_used(tmp_path) -> None:
    """Blocks that were saved once and never asked for are not worth a write."""
    with BlockStore(settings(tmp_path, host=4, disk=20, uses=2)) as store:
        save(store, keys(4))
        load(store, keys(2))
        save(store, keys(4, 4))
        assert store.hold(keys(4)) == [Tier.DISK] * 2 + [None] * 2
        assert store.stats().filtered == 2


def test_blocks_used_again_rise(tmp_path) -> None:
    """The second load from disk copies a block to the host."""
    with BlockStore(settings(tmp_path, host=4, disk=20)) as store:
        save(store, keys(4))
        save(store, keys(4, 4))
        assert store.hold(keys(2)) == [Tier.DISK] * 2
        load(store, keys(2))
        assert store.hold(keys(2)) == [Tier.DISK] * 2
        load(store, keys(2))
        assert store.hold(keys(2)) == [Tier.HOST] * 2
        assert store.stats().tiers[Tier.HOST].promoted == 2


@pytest.mark.parametrize("more", [{}, {"direct": True}, {"directories": 3}])
def test_a_restart_finds_the_disk_again(tmp_path, more) -> None:
    """What lay on disk is held by the next store, in the order of its use, and told as stored."""
    with BlockStore(settings(tmp_path, disk=20, **more)) as store:
        save(store, keys(12))
    with BlockStore(settings(tmp_path, disk=20, **more)) as store:
        assert {event.key for event in store.events() if event.stored} == set(keys(12))
        assert load(store, keys(12)) == [True] * 12
        save(store, keys(14, 12))
        assert store.hold(keys(12)) == [Tier.DISK] * 6 + [None] * 6
        assert load(store, keys(14, 12)) == [True] * 14


def test_evicted_blocks_do_not_come_back(tmp_path) -> None:
    """Nor do those of a store that was cleared."""
    with BlockStore(settings(tmp_path, disk=4)) as store:
        save(store, keys(4))
        save(store, keys(4, 4))
    with BlockStore(settings(tmp_path, disk=4)) as store:
        assert store.hold(keys(8)) == [None] * 4 + [Tier.DISK] * 4
        assert store.clear() == 4
    with BlockStore(settings(tmp_path, disk=4)) as store:
        assert store.longest(keys(8)) == 0


def test_a_smaller_disk_keeps_what_fits(tmp_path) -> None:
    """A restart with less room serves the blocks that lie within it."""
    with BlockStore(settings(tmp_path, disk=8)) as store:
        save(store, keys(8))
    with BlockStore(settings(tmp_path, disk=3)) as store:
        assert sum(load(store, keys(8))) == 3


def test_other_slots_begin_anew(tmp_path) -> None:
    """A directory written with another block size is not misread."""
    with BlockStore(settings(tmp_path, disk=8)) as store:
        save(store, keys(8))
    other = StoreSettings(4 * BLOCK, disk=DiskSettings(100 * BLOCK, (tmp_path / "disk0",)))
    with BlockStore(other) as store:
        assert store.longest(keys(8)) == 0


def test_a_directory_has_one_store(tmp_path) -> None:
    """Two processes writing the same slots would damage each other's blocks."""
    with BlockStore(settings(tmp_path, disk=8)), pytest.raises(Unavailable, match="open in another process"):
        BlockStore(settings(tmp_path, disk=8))


def test_workers_share_objects(tmp_path) -> None:
    """A store that opens later finds what another one put."""
    with BlockStore(settings(tmp_path, objects=20)) as store:
        save(store, keys(6))
    with BlockStore(settings(tmp_path, objects=20)) as store:
        assert store.settle(PATIENCE_S)
        assert store.hold(keys(7)) == [Tier.OBJECT] * 6 + [None]
        assert load(store, keys(7)) == [True] * 6 + [False]


def test_what_others_put_later_is_found(tmp_path) -> None:
    """A bucket is listed again from time to time."""
    often = settings(tmp_path, objects=20)
    often = replace(often, objects=replace(often.objects, list_every_s=0.05))
    with BlockStore(often) as early, BlockStore(settings(tmp_path, objects=20)) as late:
        assert early.settle(PATIENCE_S)
        assert early.longest(keys(3)) == 0
        save(late, keys(3))
        told = set()
        never = threading.Event()
        for _ in range(PATIENCE_S * 20):
            told |= {event.key for event in early.events() if event.tier is Tier.OBJECT and event.stored}
            if len(told) == 3:
                break
            never.wait(0.05)
        assert told == set(keys(3))
        assert load(early, keys(3)) == [True] * 3


def test_a_bucket_of_more_than_fits_is_known_in_part(tmp_path) -> None:
    """As much as the tier has room for, and no block is pushed out by one that was only found."""
    with BlockStore(settings(tmp_path, objects=20)) as store:
        save(store, keys(20))
    with BlockStore(settings(tmp_path, objects=5)) as store:
        assert store.settle(PATIENCE_S)
        assert store.stats().tiers[Tier.OBJECT].blocks == 5
        assert sum(load(store, keys(20))) == 5


@pytest.mark.parametrize("faster", [Tier.HOST, Tier.DISK])
def test_a_tier_below_gives_what_one_above_has_spoilt(tmp_path, faster) -> None:
    """A block damaged in memory, or on disk, comes from the next tier that has it; the damage is counted."""
    above = {"host": 4} if faster is Tier.HOST else {"disk": 4}
    below = {"disk": 8} if faster is Tier.HOST else {"objects": 8}
    with BlockStore(settings(tmp_path, **above, **below)) as store:
        save(store, keys(4))
        if faster is Tier.HOST:
            host = store._ladder.levels[0]
            assert isinstance(host, HostTier)
            host.arena[:8] = b"spoiling"
        else:
            with (tmp_path / "disk0/blocks.dat").open("r+b") as file:
                file.write(b"spoiling")
        assert load(store, keys(4)) == [True] * 4
        counts = store.stats()
        assert counts.tiers[faster].damaged == 1
        assert [tier.hits for tier in counts.tiers.values()] == [3, 1]
        assert counts.misses == 0


def test_an_object_under_another_name_is_not_served(tmp_path) -> None:
    """An object carries the digest of its key: a renamed or copied one fits no other block."""
    with BlockStore(settings(tmp_path, objects=20)) as store:
        save(store, keys(2))
    first, second = sorted(p for p in (tmp_path / "bucket").rglob("*") if p.is_file())
    first.replace(second)
    with BlockStore(settings(tmp_path, objects=20)) as store:
        assert store.settle(PATIENCE_S)
        assert load(store, keys(2)) == [False, False]
        assert store.stats().tiers[Tier.OBJECT].damaged == 1


def test_a_tenant_makes_room_among_its_own(tmp_path) -> None:
    """One who has filled its share evicts its own blocks, not the others'."""
    one, other = (Namespace("m", "bfloat16", SHAPE.layout, 16, tenant=name) for name in ("one", "other"))
    shares = StoreSettings(BLOCK, HostSettings(10 * BLOCK), tenant_share=0.5)
    with BlockStore(shares) as store:
        save(store, keys(5, 0, other))
        for first in range(0, 40, 4):
            save(store, keys(4, first, one))
        assert store.longest(keys(5, 0, other)) == 5
        assert store.hold(keys(4, 36, one)) == [Tier.HOST] * 4


def test_saves_beyond_the_bound_are_dropped(tmp_path) -> None:
    """A save that would wait is refused at once, and counted."""
    bounded = StoreSettings(BLOCK, HostSettings(100 * BLOCK), save_bytes_in_flight=3 * BLOCK)
    with BlockStore(bounded) as store:
        assert save(store, keys(4)) == [False] * 4
        assert save(store, keys(3)) == [True] * 3
        assert store.stats().dropped_saves == 4


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda folder: StoreSettings(BLOCK), "needs a tier"),
        (lambda folder: StoreSettings(0, HostSettings(1)), "above 0"),
        (lambda folder: StoreSettings(BLOCK, HostSettings(1)), "no room for a block"),
        (lambda folder: BlockStore(settings(folder, disk=4, mover="carrier pigeon")), "no mover is called"),
        (lambda folder: BlockStore(StoreSettings(BLOCK, objects=ObjectSettings(BLOCK, "nowhere"))), "nowhere"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, make, text) -> None:
    """Before anything is opened, with what is wrong."""
    with pytest.raises(InvalidArgument, match=text):
        make(tmp_path)
