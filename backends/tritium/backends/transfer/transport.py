"""What an engine needs of a transport: one region of memory that peers may read, and reads of theirs.

transport = open_transport("", "worker_0")         # "nixl" or "shm", whichever there is
region = transport.allocate(size)                  # the engine's cache lives here
...transport.address goes to a peer, with offsets into the region...
read = transport.read(address, pieces, note)       # on the peer; poll it until it is over
transport.take_notes()                             # back here: the notes of the reads that have ended
"""

import importlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tritium.core.errors import InvalidArgument, Unavailable
from tritium.kv.nixl_package import find_nixl


class ReadState(StrEnum):
    """How a read stands."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Pieces:
    """Equal stretches of memory: `remote` and `local` are offsets in bytes into the two regions."""

    remote: npt.NDArray[np.int64]
    local: npt.NDArray[np.int64]
    piece_bytes: int

    @property
    def size_bytes(self) -> int:
        """Return how much moves in all."""
        return len(self.remote) * self.piece_bytes


class Read(Protocol):
    """A read under way.

    Contract: the local pieces may be written until `poll` has answered DONE or FAILED, however long that takes.
    """

    reason: str
    """Why it failed."""

    def poll(self) -> ReadState:
        """Drive the read and tell how it stands, without waiting."""
        ...


class Transport(Protocol):
    """One worker's end. Not for several threads at once."""

    name: str

    @property
    def address(self) -> str:
        """Return what a peer needs to read the region; valid once it is allocated."""
        ...

    def allocate(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Make the region, zeroed; once."""
        ...

    def read(self, address: str, pieces: Pieces, note: str) -> Read:
        """Begin to copy pieces of a peer's region into this one; `note` is left with the peer when they have come."""
        ...

    def tell(self, address: str, note: str) -> None:
        """Leave a note with a peer without reading; one that is gone is not told."""
        ...

    def take_notes(self) -> list[str]:
        """Return the notes that peers have left since the last call."""
        ...

    def close(self) -> None:
        """Give everything back; peers' reads fail from now on."""
        ...


def open_transport(kind: str, worker: str) -> Transport:
    """Open a transport: "nixl", "shm", or "" for NIXL where it is installed and shared memory otherwise.

    Raises:
        Unavailable: NIXL was asked for and is not installed.
        InvalidArgument: no such transport.
    """
    installed = bool(find_nixl())
    if kind == "nixl" and not installed:
        raise Unavailable("KV transfer by NIXL was asked for, but it is not installed", "pip install the nixl extra")
    if kind not in {"", "nixl", "shm"}:
        raise InvalidArgument(f"unknown KV transport {kind!r}", 'one of "nixl", "shm", or "" for what there is')
    # Imported only when used: UCX takes half a second.
    if kind == "nixl" or (not kind and installed):
        return importlib.import_module("tritium.backends.transfer.nixl").NixlTransport(worker)  # type: ignore[no-any-return]  # named at run time
    return importlib.import_module("tritium.backends.transfer.shm").ShmTransport(worker)  # type: ignore[no-any-return]  # named at run time
