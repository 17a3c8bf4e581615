"""The machine and this process, read from /proc when metrics are scraped.

nv_cpu_* and nv_pinned_memory_pool_* are Triton's; process_* are what Prometheus clients of every language call them.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tritium.observe.samples import Kind, MetricSource, Sample

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Ticks:
    """CPU time of the whole machine since it started."""

    idle: int
    total: int


class Machine:
    """A source of the machine's samples; utilization is that since it was last looked at, or since it was made.

    The machine is looked at when the metrics are asked for, but not before `interval_s` is over.
    """

    def __init__(
        self, interval_s: float = 0.0, *, proc: Path = _PROC, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._proc = proc
        self._interval_s = interval_s
        self._now_s = now_s
        self._ticks = self._read_ticks()
        self._seen: tuple[Sample, ...] = ()
        self._next_s = now_s()

    def __call__(self) -> Iterator[Sample]:
        """Yield what /proc offers; nothing on a system that has none."""
        if self._ticks is not None and self._now_s() >= self._next_s:
            self._next_s = self._now_s() + self._interval_s
            self._seen = tuple(self._look(self._ticks))
        yield from self._seen

    def _look(self, before: _Ticks) -> Iterator[Sample]:
        yield Sample("nv_cpu_utilization", self._utilization(before), help="CPU utilization rate [0.0 - 1.0]")
        memory = self._memory()
        total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
        yield Sample("nv_cpu_memory_total_bytes", total, help="CPU total memory (RAM), in bytes")
        yield Sample("nv_cpu_memory_used_bytes", total - available, help="CPU used memory (RAM), in bytes")

    def _utilization(self, before: _Ticks) -> float:
        now = self._read_ticks()
        if now is None or now.total <= before.total:
            return 0.0
        self._ticks = now
        return round(1 - (now.idle - before.idle) / (now.total - before.total), 4)

    def _read_ticks(self) -> _Ticks | None:
        try:
            fields = [int(text) for text in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return None
        # user nice system idle iowait irq softirq steal
        return _Ticks(fields[3] + fields[4], sum(fields))

    def _memory(self) -> dict[str, int]:
        """Return /proc/meminfo in bytes."""
        lines = (line.split() for line in (self._proc / "meminfo").read_text().splitlines())
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}


def process(proc: Path = _PROC) -> Iterator[Sample]:
    """Yield what this process uses, its children apart; nothing on a system without /proc."""
    try:
        resident_pages = int((proc / "self" / "statm").read_text().split()[1])
        descriptors = len(list((proc / "self" / "fd").iterdir()))
    except OSError:
        return
    times = os.times()
    yield Sample(
        "process_resident_memory_bytes",
        resident_pages * os.sysconf("SC_PAGE_SIZE"),
        help="Resident memory of the server process in bytes",
    )
    yield Sample(
        "process_cpu_seconds_total",
        times.user + times.system,
        kind=Kind.COUNTER,
        help="User and system CPU time of the server process in seconds",
    )
    yield Sample("process_open_fds", descriptors, help="Open file descriptors of the server process")


def pinned_memory(total_bytes: int) -> MetricSource:
    """Return the source of what Triton says of its pool of pinned memory.

    As in a Triton without a GPU, the pool is as large as was asked for, and nothing ever takes any of it.
    """

    def samples() -> Iterator[Sample]:
        name = "nv_pinned_memory_pool"
        yield Sample(f"{name}_total_bytes", total_bytes, help="Pinned memory pool total memory size, in bytes")
        yield Sample(f"{name}_used_bytes", 0, help="Pinned memory pool used memory size, in bytes")

    return samples
