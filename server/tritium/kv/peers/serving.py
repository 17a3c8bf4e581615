"""Lets other stores read our host tier: tells them what it holds, and keeps blocks where they are while they read.

A lease is a connection's request under way: the blocks stay pinned until the reader says that it is done, goes away,
or takes longer than a lease lasts. What it reads after that it checks against the checksum that came with the lease.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tritium.core.errors import Unavailable
from tritium.kv.block import Tier
from tritium.kv.holdings import Found, Holdings
from tritium.kv.peers.wire import Changes, Done, Hello, Lease, Leased, Line, Probe, Purpose, Refused, Welcome, let_in
from tritium.kv.settings import PeerSettings, split_address
from tritium.kv.shelf import Entry

BEAT_S = 2.0
LEASE_S = 10.0
_KEYS_A_FRAME = 4096
_MOST_BACKLOG = 1 << 18
_MOST_CONNECTIONS = 512
MOST_PROBE_BYTES = 16 << 20
# Of the host tier, what may be on lease at once: the rest stays free to be evicted.
_MOST_LEASED = 0.5
_ROOM_WAIT_S = 1.0
_ACCEPT_PAUSE_S = 0.1


class Memory(Protocol):
    """The host tier, as far as peers read it."""

    @property
    def slots(self) -> int:
        """Return how many blocks it has room for."""

    def view(self, entry: Entry) -> memoryview:
        """Return a pinned block's bytes."""

    def offset(self, entry: Entry) -> int:
        """Return where a block begins within the tier's memory."""


@dataclass(slots=True)
class Served:
    """What peers were given."""

    blocks: int = 0
    size_bytes: int = 0
    expired: int = 0
    """Leases whose reader took too long."""


class Serving:
    """The giving end: a listening thread, and one for each connection."""

    def __init__(
        self, settings: PeerSettings, store: bytes, holdings: Holdings, memory: Memory, welcome: Welcome
    ) -> None:
        """Listen; raises OSError."""
        self._settings = settings
        self._store = store
        self._holdings = holdings
        self._memory = memory
        self._welcome = welcome
        self._lock = threading.Lock()
        self._lines: dict[Line, threading.Thread] = {}
        self._backlogs: set[_Backlog] = set()
        self._returned = threading.Condition(self._lock)
        self._leased = 0
        self._closed = False
        self.served = Served()
        host, port = split_address(settings.listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="kv-peers", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody; afterwards no block is on lease."""
        with self._lock:
            self._closed = True
            lines = dict(self._lines)
            for backlog in self._backlogs:
                backlog.end()
            self._returned.notify_all()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for line in lines:
            line.close()
        for thread in lines.values():
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # this one went away before it was taken in, or no more can be: then not at once again
                with self._returned:
                    if self._returned.wait_for(lambda: self._closed, _ACCEPT_PAUSE_S):
                        return
                continue
            line = Line(connection)
            thread = threading.Thread(target=self._serve, args=(line,), name="kv-peer", daemon=True)
            with self._lock:
                if self._closed or len(self._lines) >= _MOST_CONNECTIONS:
                    line.close()
                    continue
                self._lines[line] = thread
            thread.start()

    def _serve(self, line: Line) -> None:
        try:
            hello = let_in(line, self._store, self._settings.secret, self._welcome)
            if hello.purpose is Purpose.FOLLOW:
                self._tell_changes(line, hello)
            else:
                self._give(line)
        except Unavailable as refusal:
            self._refuse(line, refusal.message)
        except OSError:
            return  # the reader went away, or is no store: it is its matter
        finally:
            line.close()
            with self._lock:
                self._lines.pop(line, None)

    def _refuse(self, line: Line, reason: str) -> None:
        try:
            line.send(Refused(reason))
        except OSError:
            return  # it did not wait for the reason

    def _tell_changes(self, line: Line, hello: Hello) -> None:
        line.patience(LEASE_S)
        backlog = _Backlog(hello.prefix)
        with self._lock:
            self._backlogs.add(backlog)
        held = self._holdings.watch(Tier.HOST, backlog.put)
        try:
            ours = [one for one in held if one[0].startswith(hello.prefix)]
            for start in range(0, len(ours), _KEYS_A_FRAME):
                part = ours[start : start + _KEYS_A_FRAME]
                line.send(Changes([key for key, _ in part], [size_bytes for _, size_bytes in part]))
            while not (self._closed or backlog.ended):
                changes = backlog.take(BEAT_S)
                line.send(Changes([key for key, _ in changes], [size_bytes for _, size_bytes in changes]))
        finally:
            self._holdings.unwatch(Tier.HOST, backlog.put)
            with self._lock:
                self._backlogs.discard(backlog)

    def _give(self, line: Line) -> None:
        while True:
            line.patience(None)  # a reader keeps its connection for the next time
            asked = line.receive(Lease, Probe)
            line.patience(LEASE_S)
            if isinstance(asked, Lease):
                self._give_blocks(line, asked)
            elif isinstance(asked, Probe):
                line.send(Done(), [memoryview(bytes(max(0, min(asked.size_bytes, MOST_PROBE_BYTES))))])

    def _give_blocks(self, line: Line, asked: Lease) -> None:
        found = self._lease(asked)
        try:
            self._give_leased(line, asked, found)
        except TimeoutError:
            with self._lock:
                self.served.expired += 1
            raise
        finally:
            self._return(found)

    def _give_leased(self, line: Line, asked: Lease, found: list[Found | None]) -> None:
        entries = [one.entry if one else None for one in found]
        frame = Leased(
            [self._memory.offset(entry) if entry else -1 for entry in entries],
            [entry.checksum if entry else 0 for entry in entries],
        )
        taken = [entry for entry in entries if entry]
        line.send(frame, [self._memory.view(entry) for entry in taken] if asked.send else ())
        if not asked.send and taken:
            line.receive(Done)
        with self._lock:
            self.served.blocks += len(taken)
            self.served.size_bytes += sum(entry.size_bytes for entry in taken)

    def _lease(self, asked: Lease) -> list[Found | None]:
        if len(asked.keys) != len(asked.sizes):
            raise OSError("as many sizes as keys are needed")
        most = max(1, int(_MOST_LEASED * self._memory.slots))
        with self._returned:
            if len(asked.keys) <= most:
                # What others have on lease comes back soon.
                self._returned.wait_for(lambda: self._closed or self._leased + len(asked.keys) <= most, _ROOM_WAIT_S)
            if self._closed or self._leased + len(asked.keys) > most:
                return [None] * len(asked.keys)
            found = self._holdings.find_elsewhere(asked.keys, asked.sizes, (), Tier.HOST)
            self._leased += sum(one is not None for one in found)
            return found

    def _return(self, found: list[Found | None]) -> None:
        pinned = [one for one in found if one]
        self._holdings.release(pinned)
        with self._returned:
            self._leased -= len(pinned)
            self._returned.notify_all()


class _Backlog:
    """Changes that a reader has not been told of yet."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._changes: deque[tuple[bytes, int]] = deque()
        self._more = threading.Event()
        self.ended = False
        # Bound once: it is taken out again by what it is.
        self.put: Callable[[bytes, int], None] = self._put

    def _put(self, key: bytes, size_bytes: int) -> None:
        if not key.startswith(self._prefix):
            return
        if len(self._changes) >= _MOST_BACKLOG:
            self.ended = True  # the reader starts over, with all that is held
        else:
            self._changes.append((key, size_bytes))
        self._more.set()

    def end(self) -> None:
        self.ended = True
        self._more.set()

    def take(self, timeout_s: float) -> list[tuple[bytes, int]]:
        if not self._changes:
            self._more.wait(timeout_s)
        self._more.clear()
        return [self._changes.popleft() for _ in range(min(len(self._changes), _KEYS_A_FRAME))]
