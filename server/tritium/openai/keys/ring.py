"""All keys of a server: those of its command line, and those of a file that is read again when it changes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from tritium.core.errors import InvalidArgument
from tritium.openai.errors import Unauthorized
from tritium.openai.keys.account import Account
from tritium.openai.keys.entry import KeyEntry, key_hash, read_keys

log = structlog.get_logger("tritium")

_LOOK_EVERY_S = 1.0
"""How long a changed file may go unnoticed."""


class KeyRing:
    """Finds the account of a key. Without any key at all, everybody is let in."""

    def __init__(self, keys: Sequence[str], file: Path | None, clock_s: Callable[[], float]) -> None:
        """Take the command line's keys, which may do everything, and read the file.

        Raises:
            InvalidArgument: the file is not one of keys.
        """
        self._clock_s = clock_s
        self._file = file
        self._given = [KeyEntry(f"key-{number}", key_hash(key), admin=True) for number, key in enumerate(keys, 1)]
        self._accounts: dict[str, Account] = {}
        self._seen = _mark(file)
        self._looked_s = clock_s()
        self._take(self._given + (list(read_keys(file)) if file is not None else []))

    @property
    def open(self) -> bool:
        """Tell whether everybody is let in."""
        return not self._accounts and self._file is None

    def accounts(self) -> Iterator[Account]:
        """Return every account."""
        return iter(self._accounts.values())

    def find(self, key: bytes) -> Account:
        """Return the account of a key.

        Keys are found by their hash: how long that takes tells nothing of how much of a guess was right.

        Raises:
            Unauthorized: there is no key, or none like it.
        """
        self._look()
        if not key:
            raise Unauthorized("You didn't provide an API key.", hint="send it as Authorization: Bearer KEY")
        account = self._accounts.get(key_hash(key))
        if account is None:
            raise Unauthorized("Incorrect API key provided.")
        return account

    def _look(self) -> None:
        """Read the file again if it changed; one that cannot be used is logged, and what was read before holds."""
        now_s = self._clock_s()
        if self._file is None or now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        mark = _mark(self._file)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            entries = read_keys(self._file)
        except InvalidArgument as error:
            log.warning("keys_not_read", file=str(self._file), reason=error.message)
            return
        self._take([*self._given, *entries])
        log.info("keys_read", file=str(self._file), keys=len(entries))

    def _take(self, entries: Sequence[KeyEntry]) -> None:
        now_s = self._clock_s()
        before = self._accounts
        self._accounts = {}
        for entry in entries:
            account = before.get(entry.sha256)
            if account is None:
                account = Account(entry, now_s)
            else:
                account.amend(entry, now_s)
            self._accounts[entry.sha256] = account


def _mark(file: Path | None) -> tuple[int, int, int] | None:
    """Return what changes when a file does; None where there is none."""
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
