"""Packed environments (conda-pack's .tar.gz), unpacked once into a cache that the next start finds again.

An archive is known by its path, size and time of change; another one under its name is unpacked anew. The folder
appears whole or not at all: it is made beside its place and renamed.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import threading
from pathlib import Path

from tritium.core.errors import InvalidArgument

_unpacking = threading.Lock()


def unpacked(archive: Path, said: str) -> Path:
    """Return the folder of an archive's environment; `said` begins the messages.

    Raises:
        InvalidArgument: it is no archive, or an entry would land outside the folder.
    """
    status = archive.stat()
    identity = f"{archive.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    cache = _cache()
    folder = cache / hashlib.sha256(identity.encode()).hexdigest()[:16]
    with _unpacking:
        if not folder.exists():
            _unpack(archive, cache, folder, said)
    return folder


def _unpack(archive: Path, cache: Path, folder: Path, said: str) -> None:
    half = Path(tempfile.mkdtemp(prefix="unpacking-", dir=cache))
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(half, filter="data")
        half.rename(folder)
    except tarfile.FilterError as error:
        raise InvalidArgument(f"{said} is not unpacked, for it would write outside its folder: {error}") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidArgument(
            f"{said} cannot be unpacked: {error}",
            hint="conda-pack makes such archives: conda pack -o environment.tar.gz",
        ) from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _cache() -> Path:
    """Return the folder for unpacked environments: the user's cache, or the machine's folder for temporary files."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    temporary = Path(tempfile.gettempdir())
    for place in (home / "tritium" / "environments", temporary / f"tritium-environments-{os.getuid()}"):
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(place, os.W_OK):
            return place
    raise InvalidArgument(
        "there is no folder to unpack environments into", hint="set XDG_CACHE_HOME to one that can be written to"
    )
