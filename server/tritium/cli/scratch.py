"""A folder in the temporary one that goes with its process; what a killed process left there, the next one removes.

Whose it is tells a lock, which the kernel takes back however a process ends.
"""

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_LOCK = ".lock"
_YOUNG_S = 60.0
"""A folder so young may be about to be locked by who has made it."""


class Scratch:
    """A folder of this process; `kind` begins its name, and of that kind those are removed that nobody holds."""

    def __init__(self, kind: str) -> None:
        self._kind = f"tritium-{kind}-"
        self.folder = Path(tempfile.gettempdir()) / f"{self._kind}{os.getpid()}-{os.urandom(4).hex()}"
        self._lock = -1

    def open(self) -> Path:
        """Make the folder, and remove what others have left."""
        self.folder.mkdir(mode=0o700)
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for left in self.folder.parent.glob(f"{self._kind}*"):
            # Folders of other users, and those that another process removes just now, are not ours to mind.
            with suppress(OSError):
                _remove_if_left(left)
        return self.folder

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _remove_if_left(folder: Path) -> None:
    if time.time() - folder.stat().st_mtime < _YOUNG_S:
        return
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    finally:
        os.close(lock)
