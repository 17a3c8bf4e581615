"""What the processes of a server hold: memory and open files, read from /proc."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qa.e2e.product import alive, descendants


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment."""

    pid: int
    name: str
    resident_bytes: int
    open_files: int


def look(server: int) -> list[Process]:
    """Return the server's process and all it started, in the order they were started."""
    found = []
    for pid in sorted(alive({server, *descendants(server)})):
        try:
            found.append(_read(pid))
        except OSError:
            continue  # it has ended meanwhile
    return found


def resident_bytes(processes: Sequence[Process]) -> int:
    """Return the resident memory of all of them."""
    return sum(process.resident_bytes for process in processes)


def open_files(processes: Sequence[Process]) -> int:
    """Return the open files of all of them."""
    return sum(process.open_files for process in processes)


def _read(pid: int) -> Process:
    folder = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return Process(
        pid=pid,
        name=status["Name"].strip(),
        resident_bytes=int(status["VmRSS"].split()[0]) << 10,
        open_files=sum(1 for _ in (folder / "fd").iterdir()),
    )
