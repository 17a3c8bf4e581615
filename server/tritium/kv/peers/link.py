"""One peer, as we know it: what it holds is followed, and blocks are fetched.

    AWAY --connect, greet, try both paths--> FOLLOWING --hung up, silent, a fetch failed--> AWAY
      ^---------------- rests for a second, two, ... a minute -------------------------------'

While it is away none of its blocks is known.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from tritium.kv.host import checksum_of
from tritium.kv.peers.paths import Reader, probe_nixl, probe_plain
from tritium.kv.peers.serving import BEAT_S
from tritium.kv.peers.wire import GREETING_S, Changes, Done, Lease, Leased, Line, Purpose, Welcome, ask_in
from tritium.kv.rest import Rest
from tritium.kv.settings import PeerSettings, split_address

# A peer tells every two seconds at least that it lives.
_SILENT_S = 5 * BEAT_S
_MOST_IDLE = 8
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A block's checksum as it arrived, and as the peer promised it; None and 0 where it was gone."""

    arrived: int | None
    promised: int


class Link:
    """One peer; `told` is called with what it holds, `left` when nothing of that is true any more."""

    def __init__(
        self,
        address: str,
        store: bytes,
        settings: PeerSettings,
        reader: Reader | None,
        told: Callable[[Sequence[bytes], Sequence[int]], None],
        left: Callable[[], None],
    ) -> None:
        self.address = address
        self.because = "not met yet"
        """Which path blocks take and why, or why there is none."""
        self.is_us = False
        self.following = False
        self._store = store
        self._settings = settings
        self._reader = reader
        self._told = told
        self._left = left
        self._rest = Rest()
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        self._follow: Line | None = None
        self._nixl_name = ""
        self._welcome: Welcome | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kv-follow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the peer."""
        self._closed.set()
        self._hang_up()
        self._thread.join()

    def fetch(self, keys: Sequence[bytes], into: Sequence[memoryview]) -> list[Fetched]:
        """Fetch blocks; raises OSError, after which the peer is away for a while."""
        sizes = [view.nbytes for view in into]
        try:
            line = self._line()
            try:
                fetched = self._fetch(line, list(keys), sizes, into)
            except BaseException:
                line.close()
                raise
        except OSError as fault:
            self._fail(str(fault))
            raise
        with self._lock:
            if self.following and len(self._idle) < _MOST_IDLE:
                self._idle.append(line)
                return fetched
        line.close()
        return fetched

    def _fetch(self, line: Line, keys: list[bytes], sizes: list[int], into: Sequence[memoryview]) -> list[Fetched]:
        welcome, name = self._welcome, self._nixl_name
        line.patience(self._settings.timeout_s)
        line.send(Lease(keys, sizes, send=not name))
        leased = line.receive(Leased)
        if not len(leased.offsets) == len(leased.checksums) == len(keys):
            raise OSError("it answered for other blocks than it was asked for")
        there = [place for place, offset in enumerate(leased.offsets) if offset >= 0]
        targets = [into[place] for place in there]
        if name and there:
            assert self._reader is not None
            assert welcome is not None
            starts = [welcome.base + leased.offsets[place] for place in there]
            try:
                summed = self._reader.read(name, starts, targets, self._settings.timeout_s)
            finally:
                line.send(Done())
        else:
            line.receive_blocks(targets, self._settings.timeout_s)
            summed = [checksum_of(view) for view in targets]
        arrived = dict(zip(there, summed, strict=True))
        return [Fetched(arrived.get(place), leased.checksums[place]) for place in range(len(keys))]

    def _run(self) -> None:
        while not self._closed.is_set():
            reason = ""
            try:
                self._follow_it()
            except OSError as fault:
                reason = str(fault) or type(fault).__name__
            finally:
                # Before NIXL is told, which may take its time over a peer that died: nobody is to ask it for blocks.
                self._left()
            if reason:
                self._fail(reason)
            self._hang_up()
            if self.is_us:
                return
            self._closed.wait(self._rest.seconds)

    def _follow_it(self) -> None:
        line, welcome = self._connect(Purpose.FOLLOW)
        with self._lock:
            self._follow = line
        if welcome.store == self._store:
            self.is_us = True
            return
        self._choose_path(welcome)
        line.patience(_SILENT_S)
        self.following = True
        while not self._closed.is_set():
            changes = line.receive(Changes)
            if len(changes.keys) != len(changes.sizes):
                raise OSError("it tells of other sizes than blocks")
            if changes.keys:
                self._told(changes.keys, changes.sizes)
            self._rest.end()

    def _choose_path(self, welcome: Welcome) -> None:
        """Take the path that is faster from here, or the one that is set."""
        self._welcome, self._nixl_name = welcome, ""
        fetching, _ = self._connect(Purpose.FETCH)
        try:
            patience_s = self._settings.timeout_s
            wanted = self._settings.path
            speeds: dict[str, float] = {}
            why_not = "" if welcome.metadata else "the peer has no NIXL"
            if self._reader is None:
                why_not = "no NIXL here"
            elif welcome.metadata and wanted != "plain":
                try:
                    name = self._reader.agent.meet(welcome.metadata)
                    self._nixl_name = name
                    speeds["nixl"] = probe_nixl(self._reader, name, welcome, patience_s)
                except OSError as fault:
                    why_not = str(fault)
            if wanted == "nixl" and "nixl" not in speeds:
                raise OSError(f"blocks are to come by NIXL: {why_not}")
            if wanted != "nixl":
                speeds["plain"] = probe_plain(fetching, patience_s)
        finally:
            fetching.close()
        best = max(speeds, key=speeds.__getitem__)
        if best != "nixl":
            self._part()
        told = ", ".join(f"{path} {speed / 1e9:.2f} GB/s" for path, speed in speeds.items())
        self.because = f"{best}: {told}" + (f"; {why_not}" if why_not and not wanted else "")

    def _line(self) -> Line:
        with self._lock:
            if not self.following:
                raise OSError(f"peer {self.address} is away")
            if self._idle:
                return self._idle.pop()
        return self._connect(Purpose.FETCH)[0]

    def _connect(self, purpose: Purpose) -> tuple[Line, Welcome]:
        # Who follows has time; a block that is waited for may as well come from elsewhere.
        patience_s = GREETING_S if purpose is Purpose.FOLLOW else self._settings.timeout_s
        connection = socket.create_connection(split_address(self.address), min(_CONNECT_S, patience_s))
        line = Line(connection)
        line.patience(patience_s)
        try:
            return line, ask_in(line, purpose, self._store, self._settings.secret, self._settings.prefix)
        except BaseException:
            line.close()
            raise

    def _fail(self, reason: str) -> None:
        if not (self._closed.is_set() or self._rest.resting):
            self.because = reason  # what follows from it says less
            self._rest.begin()
        self._hang_up()

    def _hang_up(self) -> None:
        """End all connections; the following thread comes to its end with its own."""
        with self._lock:
            self.following = False
            lines, self._idle = self._idle, []
            if self._follow is not None:
                lines.append(self._follow)
                self._follow = None
        for line in lines:
            line.close()
        self._part()

    def _part(self) -> None:
        name, self._nixl_name = self._nixl_name, ""
        if name and self._reader is not None:
            with suppress(OSError):
                self._reader.agent.part(name)
