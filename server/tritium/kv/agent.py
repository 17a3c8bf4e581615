"""A NIXL agent, as the tiers use it: pieces of memory to and from a peer's memory (UCX), files (POSIX), objects (OBJ).

    agent.move(READ, pieces here, pieces there, peer or itself, patience) -> arrived, or OSError
                                                                             `--> StillMoving: memory not free yet

Where NIXL is not installed, or a plugin does not load, `Agent` says so and the caller copies plainly.
"""

import errno
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tritium.core.errors import InvalidArgument
from tritium.kv.nixl_package import import_nixl

# Between looks at a transfer: at first none, so that short ones are over at once.
_SPINS = 200
_PAUSE_S = 50e-6


class Way(StrEnum):
    """Where bytes go, seen from the memory here."""

    READ = "READ"
    WRITE = "WRITE"


class Kind(StrEnum):
    """What pieces are pieces of."""

    MEMORY = "DRAM"
    GPU = "VRAM"
    FILE = "FILE"
    OBJECT = "OBJ"


class Piece(NamedTuple):
    """One descriptor: an address or offset, its bytes, a device or open file or number, an object's name."""

    start: int
    size_bytes: int
    device: int = 0
    name: str = ""


class StillMoving(OSError):
    """The patience is over and the transfer is not: its memory must not be used before `over`."""

    def __init__(self, agent: "Agent", handle: Any) -> None:
        super().__init__(errno.ETIMEDOUT, "nixl: the transfer takes too long")
        self._agent = agent
        self._handle = handle

    @property
    def over(self) -> bool:
        """Return whether the memory is free again."""
        return self._agent.is_over(self._handle)


def address_of(view: memoryview) -> int:
    """Return where memory begins."""
    return int(np.frombuffer(view, np.uint8).ctypes.data)


class Agent:
    """One agent with the plugins it was made with; safe from many threads."""

    def __init__(self, name: str, plugins: Mapping[str, Mapping[str, str]], *, serving: bool = False) -> None:
        """Open the plugins; `serving` for one whose memory peers read, also while nothing happens here.

        Raises InvalidArgument where NIXL is not installed or a plugin does not load.
        """
        nixl = import_nixl()
        self._lock = threading.Lock()
        self._faults = nixl.faults
        try:
            config = nixl.api.nixl_agent_config(enable_prog_thread=serving, backends=[])
            # Names are global among agents that meet.
            self._agent: Any = nixl.api.nixl_agent(f"{name}-{os.getpid()}-{secrets.token_hex(4)}", config)
            for plugin, parameters in plugins.items():
                self._agent.create_backend(plugin, dict(parameters))
        except self._faults as fault:
            raise InvalidArgument(f"NIXL's plugins {', '.join(plugins)} do not load here: {fault}") from fault

    @property
    def name(self) -> str:
        """Return by what name it knows itself."""
        return str(self._agent.name)

    @property
    def metadata(self) -> bytes:
        """Return what peers must have to read what is registered here."""
        with self._lock:
            return bytes(self._agent.get_agent_metadata())

    def meet(self, metadata: bytes) -> str:
        """Get to know a peer's agent; return its name. Raises OSError."""
        with self._lock, self._told():
            name = self._agent.add_remote_agent(metadata)
            return name.decode() if isinstance(name, bytes) else str(name)

    def part(self, peer: str) -> None:
        """Forget a peer."""
        with self._lock, suppress(*self._faults):
            self._agent.remove_remote_agent(peer)

    def register(self, pieces: Sequence[Piece], kind: Kind, plugin: str) -> Any:
        """Let a plugin use pieces until `deregister`; raises OSError."""
        with self._lock, self._told():
            return self._agent.register_memory([tuple(piece) for piece in pieces], kind, backends=[plugin])

    def deregister(self, registered: Any) -> None:
        """Take pieces back."""
        with self._lock, suppress(*self._faults):
            self._agent.deregister_memory(registered)

    @contextmanager
    def registered(self, pieces: Sequence[Piece], kind: Kind, plugin: str) -> Iterator[Any]:
        """Register pieces for as long as the block lasts; yields their descriptors."""
        registered = self.register(pieces, kind, plugin)
        try:
            yield registered.trim()
        finally:
            self.deregister(registered)

    def memory(self, starts: npt.NDArray[np.uint64], sizes: npt.NDArray[np.uint64]) -> Any:
        """Return descriptors of pieces within memory that is registered, here or at a peer."""
        table = np.zeros((len(starts), 3), np.uint64)
        table[:, 0], table[:, 1] = starts, sizes
        with self._lock:
            return self._agent.get_xfer_descs(table, Kind.MEMORY)

    def move(self, way: Way, here: Any, there: Any, peer: str, patience_s: float = float("inf")) -> None:
        """Move as many pieces at once as the descriptors say; raises OSError, of which StillMoving is one."""
        with self._lock, self._told():
            handle = self._agent.initialize_xfer(way, here, there, peer)
        try:
            state = self._end_of(handle, time.monotonic() + patience_s)
        except OSError:
            self._release(handle)
            raise
        if state == "PROC":
            raise StillMoving(self, handle)
        self._release(handle)
        if state != "DONE":
            raise OSError(errno.EIO, f"nixl: the transfer ended as {state}")

    def is_over(self, handle: Any) -> bool:
        """Return whether a transfer that took too long has ended; it is let go of then."""
        try:
            with self._lock:
                if self._agent.check_xfer_state(handle) == "PROC":
                    return False
        except self._faults:
            pass  # it ended, badly
        self._release(handle)
        return True

    def close(self) -> None:
        """Let go of the agent with all that is registered."""
        with self._lock:
            self._agent = None

    def _end_of(self, handle: Any, until: float) -> str:
        """Return how a transfer ended, PROC where it had not when the time was over."""
        with self._lock, self._told():
            state = self._agent.transfer(handle)
        looks = 0
        while state == "PROC" and (looks < _SPINS or time.monotonic() < until):
            if looks >= _SPINS:
                time.sleep(_PAUSE_S)
            looks += 1
            with self._lock, self._told():
                state = self._agent.check_xfer_state(handle)
        return str(state)

    def _release(self, handle: Any) -> None:
        with self._lock, suppress(*self._faults):
            self._agent.release_xfer_handle(handle)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise NIXL's errors as OSError."""
        try:
            yield
        except self._faults as fault:
            raise OSError(errno.EIO, f"nixl: {fault}") from fault
