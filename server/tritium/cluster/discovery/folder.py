"""Discovery in a folder, which may lie on a file system that machines share.

    FOLDER/NAMESPACE/WORKER.RUN.json     written whole or not at all, touched every `BEAT_S`

A reader takes a card for dead whose time of change has not moved for `DEAD_S` by the reader's own clock: clocks of
several machines need not agree. A folder that cannot be read changes nothing: what was seen last still holds.
"""

import asyncio
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog

from tritium.cluster.card import Instance
from tritium.cluster.discovery.contract import DEAD_S, DiscoveryStatus, View, read_instance, write_instance
from tritium.core.errors import Unavailable

BEAT_S = 2.0
LOOK_S = 0.5
LEFT_S = 600.0
"""A card that nobody touched for so long is removed by who sees it."""

MOST_CARD_BYTES = 16 << 20

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Seen:
    """A card as it was read, from which file; `moved_s` is when its time of change last did, by our clock."""

    file: tuple[int, int]
    changed_ns: int
    moved_s: float
    instance: Instance | None


class FolderDiscovery:
    """A Discovery (see `discovery.contract`) over files."""

    def __init__(self, folder: Path, *, dead_s: float = DEAD_S, look_s: float = LOOK_S, beat_s: float = BEAT_S) -> None:
        self.status = DiscoveryStatus()
        self._folder = folder
        self._dead_s = dead_s
        self._look_s = look_s
        self._beat_s = beat_s
        self._announced: dict[Path, Instance] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating = False

    async def announce(self, instance: Instance) -> None:
        """Write the card, and touch it from then on.

        Raises:
            Unavailable: it cannot be written.
        """
        path = self._path(instance)
        if path in self._announced:
            # Should the card be gone when it is next touched, this is what is written.
            self._announced[path] = instance
        try:
            await asyncio.to_thread(_write, path, write_instance(instance))
        except OSError as error:
            raise Unavailable(f"the worker cannot be announced in {self._folder}: {error.strerror}") from None
        self._announced[path] = instance
        if not self._beating:
            self._beating = True
            self._spawn(self._beat())

    async def withdraw(self, instance: Instance) -> None:
        """Remove the card."""
        path = self._path(instance)
        self._announced.pop(path, None)
        with suppress(OSError):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def follow(self, namespace: str, on_change: Callable[[View], None]) -> None:
        """Look at the folder again and again."""
        self._spawn(self._look(self._folder / quote(namespace, safe=""), on_change))

    async def close(self) -> None:
        """Withdraw what was announced here, and follow no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for instance in list(self._announced.values()):
            await self.withdraw(instance)

    def _path(self, instance: Instance) -> Path:
        name = f"{quote(instance.worker, safe='')}.{quote(instance.run, safe='')}.json"
        return self._folder / quote(instance.namespace, safe="") / name

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            for path, instance in list(self._announced.items()):
                try:
                    await asyncio.to_thread(_touch, path, write_instance(instance))
                except OSError as error:
                    log.warning("discovery_unwritable", path=str(path), error=error.strerror)

    async def _look(self, folder: Path, on_change: Callable[[View], None]) -> None:
        seen: dict[str, _Seen] = {}
        last: View | None = None
        with suppress(OSError):  # what is wrong with it, looking at it says
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        while True:
            try:
                view = await asyncio.to_thread(self._read, folder, seen)
            except OSError as error:
                if self.status.connected:
                    log.warning("discovery_lost", folder=str(folder), error=error.strerror)
                self.status.connected = False
            else:
                if not self.status.connected:
                    self.status.reconnects += last is not None
                    self.status.connected = True
                self.status.heard_s = time.monotonic()
                if view != last:
                    last = view
                    on_change(view)
            await asyncio.sleep(self._look_s)

    def _read(self, folder: Path, seen: dict[str, _Seen]) -> View:
        """Return who is alive; cards are read once, when they are new or written anew."""
        now_s = time.monotonic()
        found: set[str] = set()
        # A folder that nobody has written to yet is empty; one that vanishes with all above it is an outage.
        entries = list(os.scandir(folder)) if folder.is_dir() else _nothing_in(self._folder)
        for entry in entries:
            if not entry.name.endswith(".json"):
                continue
            try:
                stat = entry.stat()
                changed_ns, file = stat.st_mtime_ns, (stat.st_ino, stat.st_size)
                known = seen.get(entry.name)
                if known is None or known.file != file:
                    seen[entry.name] = _Seen(file, changed_ns, now_s, self._instance(entry))
                elif changed_ns != known.changed_ns:
                    known.changed_ns, known.moved_s = changed_ns, now_s
                    known.instance = known.instance or self._instance(entry)
                elif now_s - known.moved_s > LEFT_S:
                    with suppress(OSError):  # it stays dead where it cannot be removed
                        Path(entry.path).unlink()
            except OSError:  # it has gone meanwhile, or leads nowhere
                continue
            found.add(entry.name)
        for name in list(seen):
            if name not in found:
                del seen[name]
        alive = (one.instance for one in seen.values() if now_s - one.moved_s <= self._dead_s)
        return {instance.key: instance for instance in alive if instance is not None}

    def _instance(self, entry: os.DirEntry[str]) -> Instance | None:
        """Read a card; nothing where it is none, which is no harm to others.

        Raises:
            FileNotFoundError: it has gone meanwhile.
        """
        instance = None
        try:
            # Of a pipe or a device the end might never come.
            if entry.is_file() and entry.stat().st_size <= MOST_CARD_BYTES:
                instance = read_instance(Path(entry.path).read_bytes())
            if instance is not None and self._path(instance) != Path(entry.path):
                # Who writes under another's name could take it out of sight.
                instance = None
        except FileNotFoundError:
            raise
        except OSError as error:
            log.warning("announcement_unreadable", path=entry.path, error=error.strerror)
        self.status.unreadable += instance is None
        return instance

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _touch(path: Path, data: bytes) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:
        # Somebody tidied up, or took us for dead.
        _write(path, data)


def _nothing_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return nothing, once it is sure that the folder itself is there.

    Raises:
        OSError: it is not.
    """
    folder.stat()
    return []
