"""Where apply and rollback may write: below the deployment's folder, through no link, and one at a time."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tritium.migration.below import leads_out, link_on_the_way


class Refused(Exception):
    """What was asked for would lose something, or makes no sense here."""


def check_places(root: Path, paths: Iterable[str]) -> None:
    """Hold paths that are about to be written or taken away against the folder that they belong to.

    Raises:
        Refused: one of them leads out of it, by its name or through a link.
    """
    for path in paths:
        if leads_out(path):
            raise Refused(f"{path!r} is no path below {root}: nothing was written")
        if (link := link_on_the_way(root, path)) is not None:
            raise Refused(f"{path} lies behind the link {link}: nothing was written; move what the link leads to")


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Keep every other apply and rollback out of a folder; the kernel lets go of it for one that is killed.

    Raises:
        Refused: another is at work there, or there is no such folder.
    """
    try:
        number = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{root}: {error.strerror}") from error
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused(f"{root}: another apply or rollback is at work here; wait for it") from None
    finally:
        os.close(number)
