"""How much memory is left: asked before a large body is taken in, for the kernel kills whoever it cannot serve.

A twin of `backends.python.room`, which runs in the processes of models: this room imports nothing of ours.
"""

from pathlib import Path

ASK_BYTES = 64 << 20
"""Less is taken without asking, which costs 40 µs."""


def room_bytes(root: Path = Path("/")) -> int:
    """Return what the machine, or the container around this process, can still give; a lot where neither says."""
    return min(_of_machine(root / "proc/meminfo"), _of_container(root / "sys/fs/cgroup"))


_UNKNOWN = 1 << 62


def _of_machine(meminfo: Path) -> int:
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return _UNKNOWN
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), _UNKNOWN)


def _of_container(cgroup: Path) -> int:
    """Read a cgroup of version 2; cached pages of files count as free, for they make room."""
    try:
        most = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        stat = (cgroup / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return _UNKNOWN  # no such file, or "max"
    cached = sum(int(line.split()[1]) for line in stat if line.startswith(("inactive_file ", "active_file ")))
    return max(0, most - used + cached)
