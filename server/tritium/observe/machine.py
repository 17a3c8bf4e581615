"""The machine and this process, read from /proc when metrics are scraped.

nv_cpu_* are Triton's; process_* are what Prometheus clients of every language call them.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tritium.observe.samples import Kind, Sample

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Ticks:
    """CPU time of the whole machine since it started."""

    idle: int
    total: int


class Machine:
    """A source of samples; utilization is that since it was last asked, or since it was made."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._ticks = self._read_ticks()

    def __call__(self) -> Iterator[Sample]:
        """Yield what /proc offers; nothing on a system that has none."""
        if self._ticks is None:
            return
        yield Sample("nv_cpu_utilization", self._utilization(), help="CPU utilization rate [0.0 - 1.0]")
        memory = self._memory()
        total, available = memory.get("MemTotal", 0), memory.get("MemAvailable", 0)
        yield Sample("nv_cpu_memory_total_bytes", total, help="CPU total memory (RAM), in bytes")
        yield Sample("nv_cpu_memory_used_bytes", total - available, help="CPU used memory (RAM), in bytes")
        yield from self._process()

    def _utilization(self) -> float:
        before, now = self._ticks, self._read_ticks()
        if before is None or now is None or now.total <= before.total:
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

    def _process(self) -> Iterator[Sample]:
        resident_pages = int((self._proc / "self" / "statm").read_text().split()[1])
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
        yield Sample(
            "process_open_fds",
            len(list((self._proc / "self" / "fd").iterdir())),
            help="Open file descriptors of the server process",
        )
