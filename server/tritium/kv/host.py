"""The tier in host memory: one arena of slots, pinned for the GPU where there is one."""

import ctypes
import mmap
import sys
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import xxhash

from tritium.kv.block import Tier
from tritium.kv.settings import HostSettings
from tritium.kv.shelf import Entry, Shares, Shelf

PAGE_BYTES = 4096
# What is copied is summed while it still lies in the processor's cache. Part of the format of disk and objects.
_PIECE_BYTES = 256 << 10


def round_up(size_bytes: int) -> int:
    """Return the size in whole pages."""
    return -(-size_bytes // PAGE_BYTES) * PAGE_BYTES


def aligned_memory(size_bytes: int) -> memoryview:
    """Return memory that begins with a page, as direct I/O needs it."""
    return memoryview(mmap.mmap(-1, size_bytes))


def checksum_of(data: memoryview) -> int:
    """Return a block's checksum: its xxh3, or that of the xxh3s of its pieces where it has several."""
    if data.nbytes <= _PIECE_BYTES:
        return xxhash.xxh3_64_intdigest(data)
    starts = range(0, data.nbytes, _PIECE_BYTES)
    return xxhash.xxh3_64_intdigest(b"".join(xxhash.xxh3_64_digest(data[i : i + _PIECE_BYTES]) for i in starts))


def copy_block(into: memoryview, data: memoryview, *, summing: bool = True) -> int:
    """Copy a block and return the checksum of what arrived; 0 without `summing`."""
    target, source = np.frombuffer(into, np.uint8), np.frombuffer(data, np.uint8)
    if not summing or data.nbytes <= _PIECE_BYTES:
        np.copyto(target, source)
        return xxhash.xxh3_64_intdigest(into) if summing else 0
    digests = []
    for start in range(0, data.nbytes, _PIECE_BYTES):
        np.copyto(target[start : start + _PIECE_BYTES], source[start : start + _PIECE_BYTES])
        digests.append(xxhash.xxh3_64_digest(into[start : start + _PIECE_BYTES]))
    return xxhash.xxh3_64_intdigest(b"".join(digests))


class HostTier:
    """Blocks in memory."""

    tier = Tier.HOST
    min_uses = 1

    def __init__(self, settings: HostSettings, block_bytes: int, shares: Shares) -> None:
        # Packed: the size that was given is all that is taken.
        self._stride = block_bytes
        self.shelf = Shelf(settings.size_bytes // block_bytes, shares)
        self.capacity_bytes = self.shelf.slots * block_bytes
        self._memory = mmap.mmap(-1, self.shelf.slots * self._stride)
        self.arena = memoryview(self._memory)
        self.pinned = settings.pinned and _pin(self.arena)

    @property
    def notes(self) -> list[str]:
        """Return nothing: there is nothing to say of it."""
        return []

    @property
    def slots(self) -> int:
        """Return how many blocks it has room for."""
        return self.shelf.slots

    def offset(self, entry: Entry) -> int:
        """Return where a block begins within the tier's memory."""
        return entry.slot * self._stride

    def view(self, entry: Entry) -> memoryview:
        """Return a block's bytes where they lie."""
        start = self.offset(entry)
        return self.arena[start : start + entry.size_bytes]

    def write(
        self, entries: Sequence[Entry], blocks: Sequence[memoryview], checksums: Sequence[int | None]
    ) -> list[int | None]:
        """Copy blocks to their slots; return their checksums."""
        summed = [copy_block(self.view(entry), block) for entry, block in zip(entries, blocks, strict=True)]
        return [given or own for given, own in zip(checksums, summed, strict=True)]

    def read(self, entries: Sequence[Entry], into: Sequence[memoryview]) -> list[int | None]:
        """Copy blocks out; return the checksums of what arrived."""
        return [copy_block(target, self.view(entry)) for entry, target in zip(entries, into, strict=True)]

    def discard(self, entries: Sequence[Entry]) -> None:
        """Nothing is left behind in memory that anybody could find."""

    @property
    def resting(self) -> bool:
        """Return False: memory does not go away."""
        return False

    def close(self) -> None:
        """Give the memory back."""
        if self.pinned:
            _unpin(self.arena)
        self.arena.release()
        with suppress(BufferError):  # the error of a request that failed may still name a block: it goes with that
            self._memory.close()


def _pin(arena: memoryview) -> bool:
    # Whoever has blocks on a GPU has loaded torch; nobody else should wait for its import.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return False
    address = ctypes.addressof(ctypes.c_char.from_buffer(arena))
    return int(torch.cuda.cudart().cudaHostRegister(address, arena.nbytes, 0)) == 0


def _unpin(arena: memoryview) -> None:
    address = ctypes.addressof(ctypes.c_char.from_buffer(arena))
    sys.modules["torch"].cuda.cudart().cudaHostUnregister(address)
