"""The registered regions of system shared memory, each mapped once and handed out as views.

    REGISTERED --unregister, nobody uses it--> gone, unmapped
        |                                        ^
        +--unregister, in use--> LEAVING --last view dies--+

A leaving region can still be used and is still listed, as in Triton. Views keep their mapping alive by reference,
so no request can be left with memory that is gone, whichever way it ends.
"""

import errno
import mmap
import os
import weakref
from _posixshmem import shm_open  # type: ignore[import-not-found]  # CPython's own; typeshed lacks it
from collections.abc import Sequence

from tritium.compat.v2 import regions
from tritium.core.regions import RegionStatus
from tritium.memory import fault


class _Region:
    """One region; `_held` is let go of when it is unregistered, and then only views keep the mapping."""

    __slots__ = ("_found", "_held", "_watched", "status")

    def __init__(self, status: RegionStatus, mapping: mmap.mmap) -> None:
        self.status = status
        self._held: mmap.mmap | None = mapping
        self._found = weakref.ref(mapping)
        self._watched = fault.watch(mapping)

    @property
    def gone(self) -> bool:
        """Tell whether nobody holds the mapping any more."""
        return self._found() is None

    def leave(self) -> None:
        """Unmap as soon as nobody uses it."""
        self._held = None

    def view(self, offset: int, byte_size: int) -> memoryview:
        """Return a part of it.

        Raises:
            Refusal: it reaches beyond the region, or the client has cut the object off, so that nothing is there.
        """
        name = self.status.name
        regions.check_bounds(name, self.status.byte_size, offset, byte_size)
        mapping = self._found()
        if mapping is None:
            raise regions.unknown(name)
        if self._watched.lost or mapping.size() < self.status.offset + self.status.byte_size:
            raise regions.cut_off(name, self.status.key)
        return memoryview(mapping)[offset : offset + byte_size]


class RegionRegistry:
    """The regions of a server that lets its clients register them; called on the event loop only."""

    def __init__(self) -> None:
        self._regions: dict[str, _Region] = {}

    def check_open(self) -> None:
        """Let everybody register."""

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map a part of a POSIX shared memory object under a name.

        Raises:
            Refusal: the name is taken, there is no such object, or it does not have that part.
        """
        regions.check_key(name, key)
        self._sweep()
        if name in self._regions:
            raise regions.taken(name)
        try:
            descriptor = shm_open(key, os.O_RDWR, 0o600)
        except (OSError, ValueError):
            raise regions.no_object(key) from None
        try:
            if offset + byte_size > os.fstat(descriptor).st_size:
                raise regions.beyond_object(name)
            mapping = _map(name, descriptor, offset, byte_size)
        finally:
            os.close(descriptor)  # the mapping has its own
        self._regions[name] = _Region(RegionStatus(name, key, offset, byte_size), mapping)

    def register_cuda(self, name: str) -> None:
        """Refuse a region of CUDA memory.

        Raises:
            Refusal: always; also where the name is taken.
        """
        if name in self._regions:
            raise regions.taken(name)
        raise regions.no_gpu(name)

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them, as soon as no request uses it any more."""
        for leaving in [name] if name else list(self._regions):
            if leaving in self._regions:
                self._regions[leaving].leave()
        self._sweep()

    def unregister_cuda(self, name: str = "") -> None:
        """Forget CUDA regions, of which there are none."""

    def status(self, name: str = "") -> Sequence[RegionStatus]:
        """List every region by name, or the one that is asked for.

        Raises:
            Refusal: there is none of that name.
        """
        self._sweep()
        if not name:
            return [self._regions[known].status for known in sorted(self._regions)]
        if name not in self._regions:
            raise regions.unknown_status("system", name)
        return [self._regions[name].status]

    def cuda_status(self, name: str = "") -> Sequence[RegionStatus]:
        """List the CUDA regions: none.

        Raises:
            Refusal: one is asked for by name.
        """
        if not name:
            return []
        raise regions.not_cuda(name) if name in self._regions else regions.unknown_status("cuda", name)

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        """Return `byte_size` bytes of a region from `offset` on, writable and not copied.

        Raises:
            Refusal: there is no such region, or it does not have that part.
        """
        region = self._regions.get(name)
        if region is None:
            raise regions.unknown(name)
        return region.view(offset, byte_size)

    def _sweep(self) -> None:
        """Strike the regions that have left."""
        for name in [name for name, region in self._regions.items() if region.gone]:
            del self._regions[name]


def _map(name: str, descriptor: int, offset: int, byte_size: int) -> mmap.mmap:
    if byte_size == 0:
        raise regions.unmappable(name, os.strerror(errno.EINVAL))  # Python would map the whole object
    try:
        return mmap.mmap(descriptor, byte_size, offset=offset)
    except (OSError, OverflowError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise regions.unmappable(name, reason) from None
