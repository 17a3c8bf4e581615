"""Shared memory for tensors too large for the socket: one sender, one receiver, no name that could be left behind.

The memory is a memfd made by the server and inherited by the process, so the kernel frees it with the last of the
two, however they end. The sender allocates and grows; the receiver maps what it is told of, and says what it no
longer refers to:

    sender   OutArena.store(bytes) -> Region ...(frame)...> InArena.array(region)   receiver
             OutArena.give_back(starts) <...(Freed frame)... the last reference to the array dies

Page 0 is a control page; no tensor lies there.
"""

import errno
import mmap
import os
import time
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tritium.backends.python.frames import Region
from tritium.backends.python.room import ASK_BYTES, room_bytes

PAGE = 4096
MIN_SEGMENT_BYTES = 4 << 20
KEEP_BYTES = 64 << 20
"""An arena above this gives its memory back when it stands empty and has not grown for TRIM_AFTER_S."""
TRIM_AFTER_S = 10.0
LARGE_BYTES = 256 << 20
"""A larger allocation gives its memory back as soon as it is freed; filling fresh pages costs little beside its way."""
MANY_FREED = 8

Bytes = bytes | bytearray | memoryview
Array = np.ndarray[Any, Any]


def create(name: str) -> int:
    """Make an anonymous file for an arena and return its descriptor; it holds the control page."""
    fd = os.memfd_create(f"tritium:{name}"[:200])
    os.ftruncate(fd, PAGE)
    return fd


class _Segments:
    """The mappings of a file. A mapping cannot grow under exported views, so each growth maps anew."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._control = mmap.mmap(fd, PAGE)
        self.control = memoryview(self._control)
        self._mapped: list[tuple[int, mmap.mmap, memoryview]] = []

    def map(self, offset: int, size: int) -> None:
        """Map a further stretch."""
        mapping = mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
        self._mapped.append((offset, mapping, memoryview(mapping)))

    def view(self, offset: int, size: int) -> memoryview:
        """View bytes of the file."""
        for start, _, view in reversed(self._mapped):
            if start <= offset:
                return view[offset - start : offset - start + size]
        raise AssertionError(f"nothing is mapped at {offset}")

    def release_pages(self) -> None:
        """Give the memory back to the kernel; what is mapped reads as zeroes, and is filled again when touched."""
        for _, mapping, _ in self._mapped:
            mapping.madvise(mmap.MADV_REMOVE)

    def release(self, offset: int, size: int) -> None:
        """Give the memory of one stretch back to the kernel, as `release_pages` does."""
        for start, mapping, _ in reversed(self._mapped):
            if start <= offset:
                mapping.madvise(mmap.MADV_REMOVE, offset - start, size)
                return

    def close(self) -> None:
        """Forget the mappings; those still viewed live on until their views die."""
        self._mapped.clear()
        # Every mapping has a descriptor of its own, and with it all of the file's memory.
        self.control.release()
        self._control.close()
        os.close(self.fd)


class _Watch(weakref.ref[Array]):
    """A weak reference to an array, that knows which region it shows."""

    __slots__ = ("identity", "region")
    region: Region
    identity: int


class _Watched:
    """Arrays by the allocations they show; `on_dropped` is called on whatever thread drops the last reference."""

    def __init__(self, on_dropped: Callable[[Region], None]) -> None:
        self._on_dropped = on_dropped
        self._by_start: dict[int, _Watch] = {}
        self._by_identity: dict[int, _Watch] = {}

    def __len__(self) -> int:
        return len(self._by_start)

    def show(self, region: Region, view: memoryview) -> Array:
        """Make the array of a region and watch it."""
        array = np.frombuffer(view, np.uint8)
        watch = _Watch(array, self._dropped)
        watch.region = region
        watch.identity = id(array)
        self._by_start[region.start] = self._by_identity[watch.identity] = watch
        return array

    def region_of(self, array: Array) -> Region | None:
        """Return the region that `array` shows, if it is one of these."""
        watch = self._by_identity.get(id(array))
        return watch.region if watch is not None else None

    def shows(self, start: int) -> bool:
        """Tell whether anybody still refers to an allocation."""
        return start in self._by_start

    def _dropped(self, watch: _Watch) -> None:
        del self._by_identity[watch.identity]
        del self._by_start[watch.region.start]
        self._on_dropped(watch.region)


class OutArena:
    """The sender's side: first fit over a free list, so that a steady load touches the same warm pages again.

    Only `give_back` may be called on any thread; for the rest the caller serialises. `on_large` is called, on whatever
    thread, when a large allocation waits for `reclaim`.
    """

    def __init__(
        self, fd: int, on_grown: Callable[[int, int], None], on_large: Callable[[], None] = lambda: None
    ) -> None:
        self._segments = _Segments(fd)
        self._on_grown = on_grown
        self._on_large = on_large
        self._free: list[tuple[int, int]] = []
        """Gaps as (offset, end), ascending. None spans two segments: a page between them is never handed out."""
        self._used: dict[int, int] = {}
        self._returned: deque[int] = deque()
        self._end = PAGE
        self._grown_at = 0.0
        self._echoed = _Watched(self._echo_dropped)

    @property
    def control(self) -> memoryview:
        """Return the control page."""
        return self._segments.control

    @property
    def used_bytes(self) -> int:
        """Return the bytes in allocations that are still referred to."""
        self.reclaim()
        return sum(end - start for start, end in self._used.items())

    @property
    def free_bytes(self) -> int:
        """Return the bytes that are set aside and hold nothing."""
        return sum(end - start for start, end in self._free)

    def store(self, data: Bytes) -> Region:
        """Copy `data` in.

        Raises:
            OSError: the machine has no memory for it.
        """
        source = memoryview(data)
        size = source.nbytes
        start = self._allocate((size + PAGE - 1) & -PAGE or PAGE)
        self._segments.view(start, size)[:] = source if source.format == "B" and source.ndim == 1 else source.cast("B")
        return Region(start, start, size)

    def echo(self, region: Region) -> Array:
        """View what the receiver handed back as it came; the allocation is free when the view is gone."""
        return self._echoed.show(region, self._segments.view(region.offset, region.size))

    def give_back(self, starts: Iterable[int]) -> None:
        """Note allocations that nobody refers to any more."""
        self._returned.extend(starts)

    def reclaim(self) -> None:
        """Make what was given back available."""
        while self._returned:
            start = self._returned.popleft()
            end = self._used.pop(start)
            if end - start > LARGE_BYTES:
                self._segments.release(start, end - start)
            self._release(start, end)
        if not self._used and self._end > KEEP_BYTES and time.monotonic() - self._grown_at > TRIM_AFTER_S:
            self._grown_at = time.monotonic()
            self._segments.release_pages()

    def close(self) -> None:
        """Forget the mappings; those still viewed live on until their views die."""
        self._segments.close()

    def _allocate(self, size: int) -> int:
        self.reclaim()
        index = next((at for at, (start, end) in enumerate(self._free) if end - start >= size), -1)
        if size > (ASK_BYTES if index < 0 else LARGE_BYTES) and size > room_bytes():
            raise OSError(errno.ENOMEM, f"the machine has no room for {size} bytes more")
        if index < 0:
            index = self._grow(size)
        start, end = self._free[index]
        if end - start == size:
            del self._free[index]
        else:
            self._free[index] = (start + size, end)
        self._used[start] = start + size
        return start

    def _grow(self, size: int) -> int:
        size = max(size, MIN_SEGMENT_BYTES, min(self._end, 1 << 30) & -PAGE)
        # The page left out keeps gaps of neighbouring segments from merging into one that no mapping covers.
        offset = self._end + PAGE
        os.ftruncate(self._segments.fd, offset + size)
        self._segments.map(offset, size)
        self._end = offset + size
        self._grown_at = time.monotonic()
        self._on_grown(offset, size)
        self._free.append((offset, offset + size))
        return len(self._free) - 1

    def _echo_dropped(self, region: Region) -> None:
        self._returned.append(region.start)
        if region.size > LARGE_BYTES:
            self._on_large()

    def _release(self, start: int, end: int) -> None:
        at = bisect_right(self._free, (start, end))
        if at < len(self._free) and self._free[at][0] == end:
            end = self._free.pop(at)[1]
        if at and self._free[at - 1][1] == start:
            self._free[at - 1] = (self._free[at - 1][0], end)
        else:
            insort(self._free, (start, end))


class InArena:
    """The receiver's side. Arrays may be dropped on any thread; `take_freed` says which allocations that freed.

    `on_many` is called, on the dropping thread, when so many or such large ones wait that the sender should hear of
    them.
    """

    def __init__(self, fd: int, on_many: Callable[[], None]) -> None:
        self._segments = _Segments(fd)
        self._on_many = on_many
        self._watched = _Watched(self._dropped)
        self.freed: deque[int] = deque()
        """Allocations that the sender has yet to hear of."""
        self._lent: set[int] = set()

    @property
    def control(self) -> memoryview:
        """Return the control page."""
        return self._segments.control

    @property
    def held(self) -> int:
        """Return how many allocations are still referred to here."""
        return len(self._watched)

    def grow(self, offset: int, size: int) -> None:
        """Map a further segment."""
        self._segments.map(offset, size)

    def array(self, region: Region) -> Array:
        """View a region as bytes; the allocation is freed when this array and every view of it are gone."""
        return self._watched.show(region, self._segments.view(region.offset, region.size))

    def lend(self, array: Array) -> Region | None:
        """Return where in this arena an array lies, if it does: its bytes need not be copied to be sent back.

        What is lent is not reported as freed. Once every reference should be gone, `settle` says whether it is.
        """
        root = array.base if isinstance(array.base, np.ndarray) else array
        region = self._watched.region_of(root)
        if region is None or region.start in self._lent:
            return None
        self._lent.add(region.start)
        at = _address(array) - _address(root)
        return Region(region.start, region.offset + at, array.nbytes, inbound=True)

    def settle(self, region: Region) -> Array | None:
        """Leave a lent region to the sender, or return its bytes: somebody here still refers to them."""
        self._lent.discard(region.start)
        if self._watched.shows(region.start):
            return np.frombuffer(self._segments.view(region.offset, region.size), np.uint8)
        return None

    def keep(self, region: Region) -> None:
        """Undo `lend`: the region will not be sent."""
        self._lent.discard(region.start)
        if not self._watched.shows(region.start):
            self.freed.append(region.start)

    def take_freed(self) -> list[int]:
        """Return the allocations freed since the last call."""
        freed: list[int] = []
        while self.freed:
            freed.append(self.freed.popleft())
        return freed

    def close(self) -> None:
        """Forget the mappings; those still viewed live on until their views die."""
        self._segments.close()

    def _dropped(self, region: Region) -> None:
        if region.start in self._lent:
            return
        self.freed.append(region.start)
        if len(self.freed) >= MANY_FREED or region.size > LARGE_BYTES:
            self._on_many()


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
