"""Files written so that a crash leaves the old one or the new one, never half of either."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def replace(path: Path, raw: bytes, like: Path | None = None) -> None:
    """Write a file whole: a new one beside it, flushed to the disk, takes its name.

    It has mode, owner and times of `like`, where one is given; its own times, where that is the file itself.
    """
    part = path.with_name(f".{path.name}.dynamo-migrate")
    with part.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    if like is not None:
        shutil.copymode(like, part)
        status = like.stat()
        with suppress(PermissionError):
            os.chown(part, status.st_uid, status.st_gid)
        if like != path:
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
    part.replace(path)
    flush_folder(path.parent)


def remove_empty(folder: Path) -> None:
    """Remove a folder that nothing is left in; any other stays."""
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def flush_folder(folder: Path) -> None:
    """Make names in a folder survive a loss of power."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
