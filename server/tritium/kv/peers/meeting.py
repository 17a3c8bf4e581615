"""How stores find each other: by a folder in which each of a machine leaves its address, or by names and ports.

FOLDER/<store>.peer     one line HOST:PORT, locked for as long as its store lives
"""

import fcntl
import os
import re
import socket
from contextlib import suppress
from pathlib import Path

from tritium.core.errors import InvalidArgument
from tritium.kv.settings import split_address

_SUFFIX = ".peer"
_LINE = re.compile(r"tritium-kv (\S+:\d{1,5})\n")
_MOST_BYTES = 512


class Notice:
    """Our address in a folder, as long as this process lives."""

    def __init__(self, folder: Path, store: bytes, address: str) -> None:
        """Put it there; InvalidArgument where the folder cannot be used."""
        self._path = folder / f"{store.hex()}{_SUFFIX}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as fault:
            raise InvalidArgument(f"peers cannot meet in {folder}: {fault.strerror}") from None
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.write(self._file, f"tritium-kv {address}\n".encode())

    def close(self) -> None:
        """Take it away."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


def addresses_at(place: str) -> list[str]:
    """Return the addresses to be tried at a folder's path or a HOST:PORT; none where nothing is found now."""
    if place.startswith("/"):
        return _in_folder(Path(place))
    host, port = split_address(place)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter for what no name may look like
        return []
    names = (address[0] for *_, address in found)
    return list(dict.fromkeys(f"[{name}]:{port}" if ":" in str(name) else f"{name}:{port}" for name in names))


def _in_folder(folder: Path) -> list[str]:
    addresses = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with suppress(OSError, UnicodeDecodeError):  # gone again, or not for us to read
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                match = _LINE.fullmatch(os.read(file, _MOST_BYTES).decode())
                if match and _alive(file):
                    addresses.append(match[1])
                elif match:
                    path.unlink()  # its store was killed
            finally:
                os.close(file)
    return addresses


def _alive(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
