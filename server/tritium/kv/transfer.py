"""One batch of blocks on its way between the caller's memory and the tiers.

    WAITING --a thread takes its parts--> MOVING --last part--> DONE   (every block: moved, or in `failed`)
       `-----------abandon()----------------^     (parts that were not begun fail at once)

Until `done`, the caller's memory belongs to the transfer: it must be neither freed nor used again.
"""

import threading
from collections.abc import Callable, Iterable, Sequence

_PART_BYTES = 8 << 20


class Transfer:
    """What became of each block of one `load` or `save`; safe to ask from any thread."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self._failed: set[int] = set()
        self._parts = 0
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._calls: list[Callable[[], object]] = []
        self._abandoned = False

    @property
    def done(self) -> bool:
        """Return whether no block is under way any more."""
        return self._finished.is_set()

    @property
    def failed(self) -> frozenset[int]:
        """Return the places of the blocks that did not arrive: absent, damaged, dropped or too late."""
        with self._lock:
            return frozenset(self._failed)

    @property
    def leading(self) -> int:
        """Return how many blocks from the first on arrived without a gap."""
        return min(self.failed, default=self.blocks)

    @property
    def abandoned(self) -> bool:
        """Return whether the caller lost interest."""
        return self._abandoned

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is done; return whether it is."""
        return self._finished.wait(timeout_s)

    def abandon(self) -> None:
        """Lose interest: what was not begun fails. The memory is free once `done` is true."""
        self._abandoned = True

    def on_done(self, call: Callable[[], object]) -> None:
        """Call back when done, on a thread of the store; at once where it is done already."""
        with self._lock:
            if not self._finished.is_set():
                self._calls.append(call)
                return
        call()

    def begin(self, parts: int) -> None:
        """Say in how many parts it is done; none is done at once."""
        self._parts = parts
        if not parts:
            self._finish()

    def part_done(self, failed: Iterable[int] = ()) -> None:
        """Count one part as finished, with the places in it that failed."""
        with self._lock:
            self._failed.update(failed)
            self._parts -= 1
            last = self._parts == 0
        if last:
            self._finish()

    def fail(self, places: Iterable[int]) -> None:
        """Count places as failed before any part runs."""
        with self._lock:
            self._failed.update(places)

    def _finish(self) -> None:
        with self._lock:
            self._finished.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()


def in_parts(sizes: Sequence[int], threads: int = 1) -> list[list[int]]:
    """Return the places of blocks in parts of some MiB, and as many parts as there are threads where that goes."""
    most = max(1, min(_PART_BYTES, -(-sum(sizes) // max(1, threads))))
    parts: list[list[int]] = []
    filled = most
    for place, size_bytes in enumerate(sizes):
        if filled >= most:
            parts.append([])
            filled = 0
        parts[-1].append(place)
        filled += size_bytes
    return parts
