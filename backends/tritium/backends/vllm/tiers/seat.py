"""Which folders below the disk tiers' directories are a worker's: the first that no other has, and its own again.

    DIRECTORY/MODEL/seat_0/rank_0      taken by its worker's number, where it is free
    DIRECTORY/MODEL/seat_1/rank_0      else the lowest that is: workers need no names to find their blocks again

A seat is held by a lock that goes with the process, however it ends.
"""

import fcntl
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from tritium.core.errors import InvalidArgument

_LOCK = "taken"


class Seat:
    """A folder's name that is this process's until it ends, or `close`."""

    def __init__(self, name: str, lock: int = -1) -> None:
        self.name = name
        self._lock = lock

    def close(self) -> None:
        """Let another process have it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def take_seat(directories: Sequence[Path], scope: str, rank: int, number: int) -> Seat:
    """Take the seat of this number, or the first that is free; where there are no directories, one in name only.

    Raises:
        InvalidArgument: a directory cannot be written to.
    """
    if not directories:
        return Seat(f"{scope}/seat_{number}/rank_{rank}")
    for place in (number, *(other for other in range(number))):
        if (seat := _take(directories[0], f"{scope}/seat_{place}/rank_{rank}")) is not None:
            return seat
    return next(
        seat
        for place in count(number + 1)
        if (seat := _take(directories[0], f"{scope}/seat_{place}/rank_{rank}")) is not None
    )


def _take(directory: Path, name: str) -> Seat | None:
    folder = directory / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise InvalidArgument(f"the disk tier cannot use {folder}: {fault.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return Seat(name, lock)
