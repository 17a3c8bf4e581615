"""How a leased block gets from a peer's memory into ours: read by NIXL, or sent over the connection.

NIXL reads into memory of our own first, not into the caller's: a read that takes too long cannot be called back, and
the caller must have its memory again. From there blocks are copied and summed in one go.
"""

import queue
import time
from collections.abc import Sequence

import numpy as np

from tritium.kv.agent import Agent, Kind, Piece, StillMoving, Way, address_of
from tritium.kv.host import PAGE_BYTES, aligned_memory, copy_block
from tritium.kv.peers.serving import MOST_PROBE_BYTES
from tritium.kv.peers.wire import Done, Line, Probe, Welcome

_PROBES = 3
_ROOMS = 4
_LEAST_ROOM_BYTES = 8 << 20


class Reader:
    """Our NIXL agent with rooms of registered memory that reads go to; bounded by the rooms there are."""

    def __init__(self, agent: Agent, block_bytes: int) -> None:
        """Make and register the rooms."""
        self.agent = agent
        self.room_bytes = max(_LEAST_ROOM_BYTES, -(-block_bytes // PAGE_BYTES) * PAGE_BYTES)
        memory = aligned_memory(_ROOMS * self.room_bytes)
        agent.register([Piece(address_of(memory), memory.nbytes)], Kind.MEMORY, "UCX")
        self._rooms: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for start in range(0, memory.nbytes, self.room_bytes):
            self._rooms.put(memory[start : start + self.room_bytes])
        self._stuck: list[tuple[StillMoving, memoryview]] = []

    def read(self, peer: str, starts: Sequence[int], into: Sequence[memoryview], patience_s: float) -> list[int]:
        """Read blocks from a peer's memory; return the checksums of what arrived. Raises OSError."""
        summed: list[int] = []
        first = 0
        while first < len(into):
            last, size_bytes = first, 0
            while last < len(into) and size_bytes + into[last].nbytes <= self.room_bytes:
                size_bytes += into[last].nbytes
                last += 1
            summed += self._read_room(peer, starts[first:last], into[first:last], patience_s)
            first = last
        return summed

    def _read_room(self, peer: str, starts: Sequence[int], into: Sequence[memoryview], patience_s: float) -> list[int]:
        self._take_back()
        try:
            room = self._rooms.get(timeout=patience_s)
        except queue.Empty:
            raise TimeoutError("no memory for one more read") from None
        try:
            sizes = np.fromiter((view.nbytes for view in into), np.uint64, len(into))
            ends = np.cumsum(sizes)
            here = self.agent.memory(np.uint64(address_of(room)) + ends - sizes, sizes)
            there = self.agent.memory(np.array(starts, np.uint64), sizes)
            self.agent.move(Way.READ, here, there, peer, patience_s)
            places = zip(into, (ends - sizes).tolist(), ends.tolist(), strict=True)
            summed = [copy_block(view, room[start:end]) for view, start, end in places]
        except StillMoving as stuck:
            self._stuck.append((stuck, room))
            raise
        except BaseException:
            self._rooms.put(room)
            raise
        self._rooms.put(room)
        return summed

    def _take_back(self) -> None:
        for one in list(self._stuck):
            if one[0].over:
                self._stuck.remove(one)
                self._rooms.put(one[1])


def probe_plain(line: Line, patience_s: float) -> float:
    """Return the bytes a second that come over a connection; raises OSError."""
    memory = memoryview(bytearray(MOST_PROBE_BYTES // 4))
    return _best(line, memory, patience_s)


def _best(line: Line, memory: memoryview, patience_s: float) -> float:
    best_s = float("inf")
    for _ in range(_PROBES):
        began = time.perf_counter()
        line.send(Probe(memory.nbytes))
        line.receive(Done)
        line.receive_blocks([memory], patience_s)
        best_s = min(best_s, time.perf_counter() - began)
    return memory.nbytes / best_s


def probe_nixl(reader: Reader, peer: str, welcome: Welcome, patience_s: float) -> float:
    """Return the bytes a second that NIXL reads from a peer; raises OSError."""
    size_bytes = min(welcome.memory_bytes, MOST_PROBE_BYTES // 4, reader.room_bytes)
    memory = memoryview(bytearray(size_bytes))
    best_s = float("inf")
    for _ in range(_PROBES):
        began = time.perf_counter()
        reader.read(peer, [welcome.base], [memory], patience_s)
        best_s = min(best_s, time.perf_counter() - began)
    return size_bytes / best_s
