"""The tier on disk: blocks in the slots of one or more directories, found again after a restart."""

import errno
import itertools
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from tritium.core.errors import InvalidArgument
from tritium.kv.block import Tier
from tritium.kv.host import PAGE_BYTES, aligned_memory, checksum_of, copy_block, round_up
from tritium.kv.mover import Run, open_mover
from tritium.kv.settings import DiskSettings
from tritium.kv.shelf import Entry, Shares, Shelf
from tritium.kv.slab import Record, Slab

_FULL = (errno.ENOSPC, errno.EDQUOT)
# What is read or written in one go where blocks do not begin with a page.
_BOUNCE_BYTES = 4 << 20


class DiskTier:
    """Blocks in files; slot n lies in directory n modulo their number."""

    tier = Tier.DISK

    def __init__(self, settings: DiskSettings, block_bytes: int, shares: Shares) -> None:
        self.min_uses = settings.min_uses
        self._stride = round_up(block_bytes)
        self._block_bytes = block_bytes
        self._mover = open_mover(settings.mover)
        self._slabs: list[Slab] = []
        self.shelf = Shelf(settings.size_bytes // self._stride, shares)
        if not self.shelf.slots:
            raise InvalidArgument(
                f"the disk tier of {settings.size_bytes} bytes has no room for a slot of {self._stride}",
                "blocks take whole pages there",
            )
        self._of_thread = threading.local()
        for directory in settings.directories:
            try:
                self._slabs.append(Slab(directory, self._stride, direct=settings.direct))
            except BaseException as fault:
                self.close()
                if isinstance(fault, OSError):
                    hint = "its file system may not take direct I/O" if settings.direct else ""
                    raise InvalidArgument(f"the disk tier cannot use {directory}: {fault.strerror}", hint) from None
                raise
        self._serials = itertools.count(self._restore())
        self._filler = memoryview(bytearray(self._stride))

    @property
    def capacity_bytes(self) -> int:
        """Return the bytes of the slots there are; fewer than were given once the disk was full."""
        return self.shelf.slots * self._stride

    @property
    def notes(self) -> list[str]:
        """Return what an operator should know of the directories."""
        notes = [slab.note_at_start for slab in self._slabs if slab.note_at_start]
        room = sum(slab.room_bytes for slab in {slab.device: slab for slab in self._slabs}.values())
        if room < self.capacity_bytes:
            notes.append(
                f"the disk tier is given {self.capacity_bytes} bytes and its file systems have room for {room}: "
                "when they are full it goes on with what it has"
            )
        return notes

    @property
    def resting(self) -> bool:
        """Return False: a disk that fails answers at once, and each block of it by itself."""
        return False

    def view(self, entry: Entry) -> memoryview | None:  # noqa: ARG002  (of the tiers' protocol)
        """Return None: blocks have to be read."""
        return None

    def write(
        self, entries: Sequence[Entry], blocks: Sequence[memoryview], checksums: Sequence[int | None]
    ) -> list[int | None]:
        """Write blocks, adjacent slots in one go, and then their records."""
        summed = list(checksums)
        for slab, places in self._runs(entries):
            try:
                self._write_run(slab, places, entries, blocks, summed)
                slab.note(self._record(entries[i], summed[i] or 0) for i in reversed(places))
            except OSError as fault:  # disk full, gone, or failing: these blocks are not kept, the tier counts them
                for i in places:
                    summed[i] = None
                    # Of a full disk the tier has as much as it has: from now on blocks leave for others.
                    entries[i].retired = fault.errno in _FULL
        return summed

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Read blocks, adjacent slots in one go."""
        summed: list[int | None] = [None] * len(entries)
        for slab, places in self._runs(entries):
            try:
                for i, checksum in zip(places, self._read_run(slab, places, entries, into), strict=True):
                    summed[i] = checksum
            except OSError:
                continue  # None stands for these blocks: they are counted as faults and computed again
        return summed

    def discard(self, entries: Sequence[Entry]) -> None:
        """Blank the records of blocks that leave."""
        for entry in entries:
            slab, slot = self._place(entry)
            try:
                slab.blank([slot])
            except OSError:
                continue  # the record stays, and is true until the slot is written; then the block fails its checksum

    def close(self) -> None:
        """Close all files."""
        self._mover.close()
        for slab in self._slabs:
            slab.close()

    def _restore(self) -> int:
        """Note what the directories hold; return the next serial."""
        found = sorted(
            (record.slot * len(self._slabs) + i, i, record)
            for i, slab in enumerate(self._slabs)
            for record in slab.records()
        )
        newest: dict[bytes, int] = {}
        for _, _, record in found:
            newest[record.key] = max(record.serial, newest.get(record.key, 0))
        for slot, i, record in found:
            fits = slot < self.shelf.slots and record.size_bytes <= self._block_bytes
            if fits and record.serial == newest[record.key]:
                self.shelf.restore(record.key, slot, record.size_bytes, record.checksum)
            else:
                self._slabs[i].blank([record.slot])
        for key in sorted(newest, key=newest.__getitem__):
            if key in self.shelf:
                self.shelf.touch(key)
        return max(newest.values(), default=0) + 1

    def _place(self, entry: Entry) -> tuple[Slab, int]:
        return self._slabs[entry.slot % len(self._slabs)], entry.slot // len(self._slabs)

    def _record(self, entry: Entry, checksum: int) -> Record:
        return Record(self._place(entry)[1], entry.key, entry.size_bytes, checksum, next(self._serials))

    def _runs(self, entries: Sequence[Entry]) -> Iterator[tuple[Slab, list[int]]]:
        """Yield the places of blocks that lie behind one another in one file."""
        for number, slab in enumerate(self._slabs):
            ours = [i for i, entry in enumerate(entries) if entry.slot % len(self._slabs) == number]
            ours.sort(key=lambda i: entries[i].slot)
            run: list[int] = []
            for i in ours:
                if run and entries[i].slot != entries[run[-1]].slot + len(self._slabs):
                    yield slab, run
                    run = []
                run.append(i)
            if run:
                yield slab, run

    def _write_run(
        self,
        slab: Slab,
        places: list[int],
        entries: Sequence[Entry],
        blocks: Sequence[memoryview],
        summed: list[int | None],
    ) -> None:
        offset = self._place(entries[places[0]])[1] * self._stride
        if slab.direct and not all(_aligned(blocks[i]) for i in places):
            for group in self._bounced(places):
                for i, slot in group.items():
                    # What is copied is summed on the way, where its checksum is not known.
                    checksum = summed[i]
                    summed[i] = copy_block(slot[: blocks[i].nbytes], blocks[i], summing=checksum is None) or checksum
                self._mover.write(slab.file, Run(offset, list(group.values())))
                offset += len(group) * self._stride
            return
        for i in places:
            if summed[i] is None:
                summed[i] = checksum_of(blocks[i])
        with slab.turn:
            self._mover.write(slab.file, Run(offset, self._padded([blocks[i] for i in places])))

    def _read_run(
        self, slab: Slab, places: list[int], entries: Sequence[Entry], into: Sequence[memoryview]
    ) -> list[int]:
        offset = self._place(entries[places[0]])[1] * self._stride
        if slab.direct and not all(_aligned(into[i]) for i in places):
            summed = []
            for group in self._bounced(places):
                self._mover.read(slab.file, Run(offset, list(group.values())))
                summed += [copy_block(into[i], slot[: into[i].nbytes]) for i, slot in group.items()]
                offset += len(group) * self._stride
            return summed
        # The last slot of a file is as long as its block, not as long as a slot.
        with slab.turn:
            self._mover.read(slab.file, Run(offset, self._padded([into[i] for i in places], pad_last=False)))
        return [checksum_of(into[i]) for i in places]

    def _padded(self, views: list[memoryview], *, pad_last: bool = True) -> list[memoryview]:
        padded = []
        for view in views:
            padded.append(view)
            if view.nbytes < self._stride:
                padded.append(self._filler[: self._stride - view.nbytes])
        if not pad_last and views[-1].nbytes < self._stride:
            padded.pop()
        return padded

    def _bounced(self, places: list[int]) -> Iterator[dict[int, memoryview]]:
        """Yield as many places at once as fit into this thread's own aligned memory, each with a slot of it."""
        memory: memoryview | None = getattr(self._of_thread, "memory", None)
        if memory is None:
            slots = max(1, _BOUNCE_BYTES // self._stride)
            memory = self._of_thread.memory = aligned_memory(slots * self._stride)
        most = memory.nbytes // self._stride
        for first in range(0, len(places), most):
            group = places[first : first + most]
            yield {i: memory[n * self._stride : (n + 1) * self._stride] for n, i in enumerate(group)}


def _aligned(view: memoryview) -> bool:
    return view.nbytes % PAGE_BYTES == 0 and np.frombuffer(view, np.uint8).ctypes.data % PAGE_BYTES == 0
