"""What a store does with the places it is given: foreign files, full and vanishing disks, sizes that do not fit."""

import errno
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash
from qa.unit.kv.blocks import BLOCK, PATIENCE_S, keys, load, save

from tritium.core.errors import InvalidArgument, Unavailable
from tritium.kv.block import Tier
from tritium.kv.disk import DiskTier
from tritium.kv.inspection import clear_directory, clear_objects, object_names
from tritium.kv.mover import PlainMover, Run
from tritium.kv.settings import DiskSettings, HostSettings, ObjectSettings, StoreSettings
from tritium.kv.store import BlockStore

ROOT = Path(__file__).parents[3]
SLOT = 8192


def on_disk(folder: Path, slots: int = 20, block: int = BLOCK) -> StoreSettings:
    """Return a store of so many slots in a directory."""
    return StoreSettings(block, disk=DiskSettings(slots * SLOT, (folder,), min_uses=1))


class Full(PlainMover):
    """A disk with room for so many bytes."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes

    def write(self, file: int, run: Run) -> None:
        """Write what lies within the room."""
        if run.offset + sum(view.nbytes for view in run.views) > self.room_bytes:
            raise OSError(errno.ENOSPC, "no space left on device")
        super().write(file, run)


def test_a_full_disk_goes_on_with_what_it_has(tmp_path: Path) -> None:
    """New blocks take the place of old ones, and when there is room again it is used."""
    with BlockStore(on_disk(tmp_path)) as store:
        tier = store._ladder.levels[0]
        assert isinstance(tier, DiskTier)
        disk = tier._mover = Full(8 * SLOT)
        for first in range(40):
            save(store, keys(1, first))
        assert [load(store, keys(1, first))[0] for first in range(34, 40)].count(True) >= 5
        assert 8 * SLOT <= tier.capacity_bytes <= 9 * SLOT
        assert store.stats().tiers[Tier.DISK].faults >= 1
        disk.room_bytes = 1 << 40
        for first in range(100, 1200):
            save(store, keys(1, first))
        assert tier.capacity_bytes == 20 * SLOT
        assert load(store, keys(20, 1180)) == [True] * 20


def test_a_tier_larger_than_its_disk_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It works, and says that there is less room than it was given."""
    caplog.set_level(logging.WARNING, "tritium.kv.store")  # whatever servers of other tests made of the root's level
    with BlockStore(StoreSettings(BLOCK, disk=DiskSettings(1 << 60, (tmp_path,), min_uses=1))) as store:
        assert save(store, keys(3)) == [True] * 3
        assert "have room for" in store.notes()[0]
    assert "have room for" in caplog.text


def test_a_directory_that_goes_away_harms_nothing(tmp_path: Path) -> None:
    """What is open stays open; a restart begins with an empty directory."""
    folder = tmp_path / "kv"
    with BlockStore(on_disk(folder)) as store:
        save(store, keys(3))
        shutil.rmtree(folder)
        assert load(store, keys(3)) == [True] * 3
        assert save(store, keys(3, 10)) == [True] * 3
    with BlockStore(on_disk(folder)) as store:
        assert store.longest(keys(3)) == 0


@pytest.mark.parametrize("name", ["blocks.idx", "blocks.dat"])
def test_foreign_files_are_left_alone(tmp_path: Path, name: str) -> None:
    """A file that only has our name is not touched, and the reason is said."""
    (tmp_path / name).write_bytes(b"somebody's thesis" * 100)
    with pytest.raises(InvalidArgument, match=r"no store's|no index"):
        BlockStore(on_disk(tmp_path))
    assert (tmp_path / name).read_bytes() == b"somebody's thesis" * 100
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_another_version_is_left_alone(tmp_path: Path) -> None:
    """What a later release wrote is not thrown away by an earlier one."""
    with BlockStore(on_disk(tmp_path)) as store:
        save(store, keys(3))
    index = bytearray((tmp_path / "blocks.idx").read_bytes())
    index[16] = 9
    index[120:128] = xxhash.xxh3_64_digest(bytes(index[:120]))
    (tmp_path / "blocks.idx").write_bytes(index)
    with pytest.raises(InvalidArgument, match="written by version 9"):
        BlockStore(on_disk(tmp_path))
    assert (tmp_path / "blocks.idx").read_bytes() == index


def test_other_slots_are_told_of(tmp_path: Path) -> None:
    """A directory of the same tier with slots of another size begins anew, and says so."""
    with BlockStore(on_disk(tmp_path)) as store:
        save(store, keys(3))
    with BlockStore(on_disk(tmp_path, block=3 * SLOT)) as store:
        assert "slots of another size" in store.notes()[0]


def test_two_processes_do_not_share_a_directory(tmp_path: Path) -> None:
    """The second one is told which directory, and what to do."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom qa.unit.kv.test_places import *\n"
        "with BlockStore(on_disk(Path(sys.argv[1]))):\n    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(Unavailable, match="open in another process") as refused:
            BlockStore(on_disk(tmp_path))
        assert "directory of its own" in refused.value.hint
    finally:
        child.communicate(timeout=PATIENCE_S)
    with BlockStore(on_disk(tmp_path)) as store:
        assert save(store, keys(1)) == [True]


@pytest.mark.parametrize(
    ("disk_bytes", "folder", "told"),
    [
        (0, "", "no room"),
        (BLOCK, "", "no room for a slot"),
        (10 * SLOT, "file/below", "cannot use"),
        (10 * SLOT, "file", "cannot use"),
    ],
)
def test_places_that_cannot_be_are_refused(tmp_path: Path, disk_bytes: int, folder: str, told: str) -> None:
    """No room, and paths that are no directory; what was opened before is closed."""
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match=told):
        BlockStore(
            StoreSettings(BLOCK, HostSettings(4 * BLOCK), DiskSettings(disk_bytes, (tmp_path / folder,), min_uses=1))
        )


def test_the_host_tier_takes_no_more_than_it_was_given() -> None:
    """Also with blocks that are no whole pages."""
    with BlockStore(StoreSettings(4097, HostSettings(10 * 4097))) as store:
        assert store.stats().tiers[Tier.HOST].capacity_bytes == 10 * 4097


def test_clearing_takes_only_what_is_ours(tmp_path: Path) -> None:
    """Other files in a directory, and other objects in a bucket, stay as they are."""
    (tmp_path / "bucket/deep").mkdir(parents=True)
    below = ObjectSettings(20 * BLOCK, f"file://{tmp_path / 'bucket'}", min_uses=1)
    settings = StoreSettings(BLOCK, disk=DiskSettings(20 * SLOT, (tmp_path / "kv",), min_uses=1), objects=below)
    with BlockStore(settings) as store:
        save(store, keys(3))
    (tmp_path / "kv/notes.txt").write_text("mine")
    (tmp_path / "bucket/deep/mine").write_text("mine")
    (tmp_path / f"bucket/{'ab' * 24}").mkdir()
    (tmp_path / f"bucket/{'ab' * 24}/mine.txt").write_text("mine")
    assert clear_directory(tmp_path / "kv") == 3
    names = [name for name, _ in object_names(below)]
    assert len(names) == 3
    clear_objects(below, names)
    assert (tmp_path / "kv/notes.txt").read_text() == "mine"
    assert (tmp_path / "bucket/deep/mine").read_text() == "mine"
    assert (tmp_path / f"bucket/{'ab' * 24}/mine.txt").read_text() == "mine"
