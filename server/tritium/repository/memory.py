"""How much memory this server and the processes of its models use, of what is theirs alone and their share of the rest.

Source: proc_pid_smaps(5), PSS.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


def used_bytes(process: int = 0, proc: Path = _PROC) -> int:
    """Return the bytes of memory of a process, this one by default, and of all its descendants."""
    return sum(_bytes(one, proc) for one in _family(process or os.getpid(), proc))


def _family(process: int, proc: Path) -> Iterator[int]:
    waiting = [process]
    while waiting:
        one = waiting.pop()
        yield one
        try:
            lists = list((proc / str(one) / "task").glob("*/children"))
            waiting += [int(child) for file in lists for child in file.read_text().split()]
        except OSError:
            continue  # it has ended meanwhile


def _bytes(process: int, proc: Path) -> int:
    try:
        lines = (proc / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)
