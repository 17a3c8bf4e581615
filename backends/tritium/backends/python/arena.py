"""Shared memory for tensors too large for the socket: one sender, one receiver, no name that could be left behind.

The memory is a memfd made by the server and inherited by the process, so the kernel frees it with the last of the
two, however they end. The sender allocates and grows; the receiver maps what it is told of, and says what it no
longer refers to:

    sender   OutArena.store(bytes) -> Region ..(frame).. InArena.view(region)   receiver
             OutArena.free(starts) <-..(Freed frame).... last reference to the view dies

Page 0 is a control page that belongs to neither's tensors.
"""

import mmap
import os
import time
import weakref
from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from tritium.backends.python.frames import Region

PAGE = 4096
MIN_SEGMENT_BYTES = 4 << 20
KEEP_BYTES = 64 << 20
"""An arena above this gives its memory back when it stands empty and has not grown for TRIM_AFTER_S."""
TRIM_AFTER_S = 10.0
MANY_FREED = 8

Bytes = bytes | bytearray | memoryview


def create(name: str) -> int:
    """Make an anonymous file for an arena and return its descriptor; it holds the control page."""
    fd = os.memfd_create(f"tritium:{name}"[:200])
    os.ftruncate(fd, PAGE)
    return fd


class _Segment:
    """One mapping of a stretch of the file; a mapping cannot grow under exported views, so each growth maps anew."""

    __slots__ = ("bytes", "end", "map", "offset")

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.offset = offset
        self.end = offset + size
        self.map = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)
        self.bytes = memoryview(self.map)


class OutArena:
    """The sender's side: first fit over a free list, so that a steady load touches the same warm pages again.

    Not thread-safe; the caller serialises.
    """

    def __init__(self, fd: int, on_grown: Callable[[int, int], None]) -> None:
        self._fd = fd
        self._on_grown = on_grown
        self._segments: list[_Segment] = []
        self._free: list[tuple[int, int]] = []
        """Gaps as (offset, end), ascending. None spans two segments: a page between them is never handed out."""
        self._used: dict[int, int] = {}
        self._end = PAGE
        self._grown_at = 0.0
        self.control = memoryview(mmap.mmap(fd, PAGE))

    @property
    def used_bytes(self) -> int:
        """Return the bytes in allocations that the receiver has not freed."""
        return sum(end - start for start, end in self._used.items())

    @property
    def size_bytes(self) -> int:
        """Return the bytes mapped."""
        return sum(segment.end - segment.offset for segment in self._segments)

    def store(self, data: Bytes) -> Region:
        """Copy `data` in."""
        view = memoryview(data)
        start, target = self.reserve(view.nbytes)
        target[:] = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        return Region(start, start, view.nbytes)

    def reserve(self, size: int) -> tuple[int, memoryview]:
        """Allocate `size` bytes and return where they start and a view to fill."""
        rounded = (size + PAGE - 1) & -PAGE or PAGE
        index = next((at for at, (start, end) in enumerate(self._free) if end - start >= rounded), -1)
        if index < 0:
            index = self._grow(rounded)
        start, end = self._free[index]
        if end - start == rounded:
            del self._free[index]
        else:
            self._free[index] = (start + rounded, end)
        self._used[start] = start + rounded
        segment = self._segment(start)
        return start, segment.bytes[start - segment.offset : start - segment.offset + size]

    def free(self, starts: list[int]) -> None:
        """Take allocations back."""
        for start in starts:
            self._release(start, self._used.pop(start))
        if not self._used and self._end > KEEP_BYTES and time.monotonic() - self._grown_at > TRIM_AFTER_S:
            self._trim()

    def close(self) -> None:
        """Forget the mappings; those still viewed live on until their views die."""
        self._segments.clear()
        self._free.clear()
        self._used.clear()
        os.close(self._fd)

    def _grow(self, size: int) -> int:
        size = max(size, MIN_SEGMENT_BYTES, min(self._end, 1 << 30) & -PAGE)
        # The page left out keeps gaps of neighbouring segments from merging into one that no mapping covers.
        offset = self._end + PAGE
        os.ftruncate(self._fd, offset + size)
        self._segments.append(_Segment(self._fd, offset, size))
        self._end = offset + size
        self._grown_at = time.monotonic()
        self._on_grown(offset, size)
        self._free.append((offset, offset + size))
        return len(self._free) - 1

    def _release(self, start: int, end: int) -> None:
        at = bisect_right(self._free, (start, end))
        if at < len(self._free) and self._free[at][0] == end:
            end = self._free.pop(at)[1]
        if at and self._free[at - 1][1] == start:
            self._free[at - 1] = (self._free[at - 1][0], end)
        else:
            insort(self._free, (start, end))

    def _segment(self, start: int) -> _Segment:
        for segment in reversed(self._segments):
            if segment.offset <= start:
                return segment
        raise AssertionError(f"no segment holds {start}")

    def _trim(self) -> None:
        """Give the pages back to the kernel; the mappings stay, and fill with zeroes when touched again."""
        self._grown_at = time.monotonic()
        for segment in self._segments:
            segment.map.madvise(mmap.MADV_REMOVE)


class _Watch(weakref.ref):  # type: ignore[type-arg]  # weakref.ref is generic only to the type checker
    """A weak reference that knows which allocation it watches."""

    __slots__ = ("start",)
    start: int


class InArena:
    """The receiver's side. Views may be dropped on any thread; `take_freed` says which allocations that freed.

    `on_many` is called, on the dropping thread, when so many wait that the sender should hear of them.
    """

    def __init__(self, fd: int, on_many: Callable[[], None]) -> None:
        self._fd = fd
        self._on_many = on_many
        self._segments: list[_Segment] = []
        self._watched: dict[int, _Watch] = {}
        self._freed: deque[int] = deque()
        self.control = memoryview(mmap.mmap(fd, PAGE))

    @property
    def held(self) -> int:
        """Return how many allocations are still referred to here."""
        return len(self._watched)

    def grow(self, offset: int, size: int) -> None:
        """Map a further segment."""
        self._segments.append(_Segment(self._fd, offset, size))

    def array(self, region: Region) -> np.ndarray[Any, Any]:
        """View a region as bytes; the allocation is freed when this array and every view of it are gone."""
        for segment in reversed(self._segments):
            if segment.offset <= region.start:
                break
        else:
            raise AssertionError(f"no segment holds {region.start}")
        array = np.frombuffer(segment.bytes, np.uint8, region.size, region.offset - segment.offset)
        watch = _Watch(array, self._on_dropped)
        watch.start = region.start
        self._watched[region.start] = watch
        return array

    def _on_dropped(self, watch: _Watch) -> None:
        # The entry may be a newer watch of the same place only if this one was reported before: it was not.
        del self._watched[watch.start]
        self._freed.append(watch.start)
        if len(self._freed) >= MANY_FREED:
            self._on_many()

    def take_freed(self) -> list[int]:
        """Return the allocations freed since the last call."""
        freed: list[int] = []
        while self._freed:
            freed.append(self._freed.popleft())
        return freed

    def close(self) -> None:
        """Forget the mappings; those still viewed live on until their views die."""
        self._segments.clear()
        os.close(self._fd)
