"""One directory of the disk tier: a file of slots, and beside it an index that says what each slot holds.

    blocks.dat   slot 0 | slot 1 | ...                            whole pages each
    blocks.idx   head | record 0 | record 1 | ...                 128 bytes each; zeros: nothing

A record is written after its block, and blanked before the slot is used again; it has a checksum of the block and one
of itself. So wherever a process or a machine stops, a record tells the truth, or it or its block fails its checksum
and is not served. Nothing is flushed: after a power cut some blocks are lost, none is wrong.
"""

import fcntl
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import xxhash

from tritium.core.errors import InvalidArgument, Unavailable
from tritium.kv.block import MOST_KEY_BYTES

_MAGIC = b"TritiumKV"
_VERSION = 1
_HEAD = struct.Struct("<16sIIQ88sQ")
_RECORD = struct.Struct(f"<QIIQ{MOST_KEY_BYTES}s40xQ")
RECORD_BYTES = 128
_DIRECT_FROM_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Record:
    """What a slot holds."""

    slot: int
    key: bytes
    size_bytes: int
    checksum: int
    serial: int
    """Rises with every write: which of two is the newer."""


class Slab:
    """The two files of a directory, open in one process at a time."""

    def __init__(self, directory: Path, slot_bytes: int, *, direct: bool | None) -> None:
        """Open or make the files; `direct` None: past the page cache where the file system takes it and it pays.

        Raises Unavailable where another process has them open, InvalidArgument for files that are not ours, OSError.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.slot_bytes = slot_bytes
        self.note_at_start = ""
        """What became of another store's blocks."""
        _refuse_strangers(directory)
        self._index = os.open(directory / "blocks.idx", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._index)
            raise Unavailable(
                f"{directory} is open in another process",
                "give every worker a directory of its own, and stop the worker to empty it",
            ) from None
        self.direct = direct is True or (direct is None and slot_bytes >= _DIRECT_FROM_BYTES)
        try:
            self.file = self._open_blocks()
        except OSError:
            if not self.direct or direct:
                os.close(self._index)
                raise
            self.direct = False
            self.file = self._open_blocks()
        self.turn: AbstractContextManager[object] = nullcontext() if self.direct else threading.Lock()
        """What to hold while reading or writing blocks: through the page cache, two threads in one file take more
        than twice as long as one, for the kernel then works with single pages."""
        self._begin_anew_unless_it_fits()

    @property
    def device(self) -> int:
        """Return the number of the file system."""
        return os.fstat(self.file).st_dev

    @property
    def room_bytes(self) -> int:
        """Return what the file system has room for, our blocks included."""
        system = os.fstatvfs(self.file)
        return system.f_bavail * system.f_frsize + os.fstat(self.file).st_blocks * 512

    def records(self) -> Iterator[Record]:
        """Yield what the index says truthfully, by rising slots."""
        return _records(os.pread(self._index, os.fstat(self._index).st_size, 0))

    def note(self, records: Iterable[Record]) -> None:
        """Write records; may raise OSError."""
        for record in records:
            packed = bytearray(
                _RECORD.pack(record.serial, record.size_bytes, len(record.key), record.checksum, record.key, 0)
            )
            packed[-8:] = xxhash.xxh3_64_digest(packed[:-8])
            os.pwrite(self._index, packed, (1 + record.slot) * RECORD_BYTES)

    def blank(self, slots: Iterable[int]) -> None:
        """Make sure that slots are not found again."""
        for slot in slots:
            os.pwrite(self._index, bytes(RECORD_BYTES), (1 + slot) * RECORD_BYTES)

    def empty(self) -> None:
        """Drop every block and give the disk its room back."""
        os.ftruncate(self._index, RECORD_BYTES)
        os.ftruncate(self.file, 0)

    def close(self) -> None:
        """Close both files; the lock goes with them."""
        os.close(self.file)
        os.close(self._index)

    def _open_blocks(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_DIRECT if self.direct else 0)
        return os.open(self.directory / "blocks.dat", flags, 0o600)

    def _begin_anew_unless_it_fits(self) -> None:
        head = _head(self.slot_bytes)
        found = os.pread(self._index, RECORD_BYTES, 0)
        if found != head:
            if found:
                self.note_at_start = f"{self.directory} held slots of another size, or was damaged: it begins anew"
            os.ftruncate(self._index, 0)
            os.ftruncate(self.file, 0)
            os.pwrite(self._index, head, 0)


def _refuse_strangers(directory: Path) -> None:
    """Leave alone what no store of this version has written."""
    _refuse_what_is_no_file(directory)
    index, blocks = directory / "blocks.idx", directory / "blocks.dat"
    hint = "name another directory, or remove the file if nobody needs it"
    if not index.exists():
        if blocks.exists():
            raise InvalidArgument(f"{blocks} is there without an index: it is no store's", hint)
        return
    with index.open("rb") as file:
        head = file.read(RECORD_BYTES)
    if not head.strip(b"\0"):
        return  # new, or cut off by a power failure
    if not head.startswith(_MAGIC):
        raise InvalidArgument(f"{index} is no index of KV blocks", hint)
    whole = len(head) == RECORD_BYTES and head[-8:] == xxhash.xxh3_64_digest(head[:-8])
    if whole and (version := _HEAD.unpack(head)[1]) != _VERSION:
        raise InvalidArgument(
            f"{directory} was written by version {version} of the disk tier, this is {_VERSION}", hint
        )


def _refuse_what_is_no_file(directory: Path) -> None:
    """Leave alone what stands under our names and is a link, a pipe or a folder: what is behind it is not ours."""
    for path in (directory / "blocks.idx", directory / "blocks.dat"):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise InvalidArgument(f"{path} is no file of a store", "name a directory that holds the files themselves")


def read_directory(directory: Path) -> list[Record]:
    """Return what a directory's index says, whether a process has it open or not."""
    _refuse_what_is_no_file(directory)
    path = directory / "blocks.idx"
    if not path.exists():
        raise InvalidArgument(f"{directory} holds no KV blocks", "name a directory of a disk tier")
    return list(_records(path.read_bytes()))


def slot_bytes_of(directory: Path) -> int:
    """Return the size of a directory's slots."""
    _refuse_what_is_no_file(directory)
    with (directory / "blocks.idx").open("rb") as file:
        head = file.read(RECORD_BYTES)
    slot_bytes = _HEAD.unpack(head)[2] if len(head) == RECORD_BYTES else 0
    if head != _head(slot_bytes):
        raise InvalidArgument(f"{directory}/blocks.idx is no index of KV blocks, or a damaged one")
    return slot_bytes


def _head(slot_bytes: int) -> bytes:
    packed = _HEAD.pack(_MAGIC, _VERSION, slot_bytes, 0, b"", 0)
    return packed[:-8] + xxhash.xxh3_64_digest(packed[:-8])


def _records(index: bytes) -> Iterator[Record]:
    for slot in range(len(index) // RECORD_BYTES - 1):
        packed = index[(1 + slot) * RECORD_BYTES : (2 + slot) * RECORD_BYTES]
        serial, size_bytes, key_bytes, checksum, key, _ = _RECORD.unpack(packed)
        if serial and packed[-8:] == xxhash.xxh3_64_digest(packed[:-8]):
            yield Record(slot, key[:key_bytes], size_bytes, checksum, serial)
