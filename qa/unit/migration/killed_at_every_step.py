"""Kills an apply or a rollback before each change of the file system, takes it back, and compares; prints how often.

python killed_at_every_step.py apply|rollback DEPLOYMENT PLAN WORK
"""

import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tritium.migration.applying.in_place import apply_in_place, roll_back
from tritium.migration.planning.saved import load

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.utime"}


def main(way: str, deployment: Path, saved: Path, work: Path) -> int:
    """Return how often it was killed; ends with what differs after a rollback."""
    plan, before, kills = load(saved), state(deployment), 0
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(deployment, work)
        if way == "rollback":
            apply_in_place(plan, work)
        killed = killed_before(
            kills, (lambda: roll_back(work)) if way == "rollback" else lambda: apply_in_place(plan, work)
        )
        if not killed:
            return kills
        kills += 1
        if way == "apply" and kills % 2:
            apply_in_place(plan, work)
        roll_back(work)
        after = state(work)
        if differing := sorted(path for path in {*before, *after} if before.get(path) != after.get(path)):
            sys.exit(f"killed before change {kills}: {differing}")


def killed_before(number: int, action: Callable[[], object]) -> bool:
    """Do something in a child that is killed before its change `number`; False where it makes no more than that."""
    child = os.fork()
    if not child:
        made = 0

        def watch(event: str, args: tuple[Any, ...]) -> None:
            nonlocal made
            if event in _CHANGES or (event == "open" and args[2] & os.O_ACCMODE):
                if made == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                made += 1

        sys.addaudithook(watch)
        try:
            action()
        finally:
            # Nothing of the parent's is to run here, and a failure is told by what is printed.
            status = 1 if sys.exc_info()[0] else 0
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"it failed by itself after {number} changes")
    return os.WIFSIGNALED(status)


def state(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time and content of every file below a folder, and the mode of every folder."""
    found = {}
    for path in root.rglob("*"):
        status, name = path.stat(), str(path.relative_to(root))
        mode = stat.S_IMODE(status.st_mode)
        found[name] = (mode, status.st_mtime_ns, path.read_bytes()) if path.is_file() else (mode, 0, b"")
    return found


if __name__ == "__main__":
    print(main(sys.argv[1], *(Path(one) for one in sys.argv[2:])))
