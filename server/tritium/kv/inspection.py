"""What a directory of the disk tier holds, looked at from outside, and emptying it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tritium.core.errors import InvalidArgument
from tritium.kv.block import tenant_of
from tritium.kv.host import checksum_of
from tritium.kv.settings import ObjectSettings
from tritium.kv.slab import Record, Slab, read_directory, slot_bytes_of


@dataclass(frozen=True, slots=True)
class DirectoryContent:
    """A directory in numbers."""

    directory: Path
    blocks: int
    size_bytes: int
    file_bytes: int
    """What the file of blocks takes on the disk."""
    slot_bytes: int
    tenants: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a block is what its record says."""

    record: Record
    good: bool


def tier_directories(paths: Sequence[Path]) -> list[Path]:
    """Return the directories of disk tiers at these paths or below; InvalidArgument for a path that has none."""
    found: dict[Path, None] = {}
    for path in paths:
        # MODEL/WORKER/rank_N is where workers put them; a whole file system is not searched.
        patterns = ("blocks.idx", "*/blocks.idx", "*/*/blocks.idx", "*/*/*/blocks.idx")
        below = sorted(index.parent for pattern in patterns for index in path.glob(pattern))
        if not below:
            raise InvalidArgument(f"{path} holds no KV blocks", "name a directory of a disk tier, or one above it")
        found.update(dict.fromkeys(below))
    return list(found)


def look_into(directory: Path) -> DirectoryContent:
    """Return a directory's content in numbers, whether a worker has it open or not."""
    records = read_directory(directory)
    blocks = directory / "blocks.dat"
    return DirectoryContent(
        directory,
        len(records),
        sum(record.size_bytes for record in records),
        blocks.stat().st_blocks * 512 if blocks.exists() else 0,
        slot_bytes_of(directory),
        len({tenant_of(record.key) for record in records}),
    )


def verify(directory: Path) -> Iterator[Verdict]:
    """Read every block and compare it with its checksum.

    Blocks that a running worker replaces meanwhile look damaged.
    """
    slot_bytes = slot_bytes_of(directory)
    file = os.open(directory / "blocks.dat", os.O_RDONLY)
    try:
        for record in read_directory(directory):
            data = os.pread(file, record.size_bytes, record.slot * slot_bytes)
            yield Verdict(record, len(data) == record.size_bytes and checksum_of(memoryview(data)) == record.checksum)
    finally:
        os.close(file)


def clear_directory(directory: Path) -> int:
    """Empty a directory that no worker has open; return how many blocks it held."""
    held = len(read_directory(directory))
    slab = Slab(directory, slot_bytes_of(directory), direct=False)
    try:
        slab.empty()
    finally:
        slab.close()
    return held


def object_names(settings: ObjectSettings) -> list[tuple[str, int]]:
    """Return the name and size of every block in an object store."""
    from tritium.kv.objects import key_of, open_bucket  # noqa: PLC0415  (needs an extra)

    pages = open_bucket(settings).list()
    return [(meta["path"], meta["size"]) for page in pages for meta in page if key_of(meta["path"])]


def clear_objects(settings: ObjectSettings, names: Sequence[str]) -> None:
    """Delete blocks from an object store."""
    from tritium.kv.objects import open_bucket  # noqa: PLC0415  (needs an extra)

    if names:
        open_bucket(settings).delete(list(names))
