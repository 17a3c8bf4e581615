"""Files written so that a crash leaves the old one or the new one, never half of either."""

import os
import shutil
from contextlib import suppress
from pathlib import Path


def replace(path: Path, raw: bytes, like: Path | None = None) -> None:
    """Write a file whole: a new one beside it, flushed to the disk, takes its name.

    It has mode, owner and times of `like`, where one is given; its own times, where that is the file itself.
    """
    part = part_of(path)
    part.unlink(missing_ok=True)  # of an apply that was killed, or a link that somebody put there
    # What it replaces may be private, and its content is as soon as it is there.
    mode = 0o666 if like is None else 0o600
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            _take_after(like, part, times=like != path)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def part_of(path: Path) -> Path:
    """Return where the new content of a file stands until it is whole."""
    return path.with_name(f".{path.name}.dynamo-migrate")


def _take_after(like: Path, part: Path, *, times: bool) -> None:
    status = like.stat()
    with suppress(PermissionError):
        os.chown(part, status.st_uid, status.st_gid)
    shutil.copymode(like, part)  # last: a change of owner takes set-user-id away
    if times:
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))


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
